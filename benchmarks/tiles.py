"""What LLaVA-NeXT's tiles gain: pages of four scenes, described by a model that sees them whole, and by one with tiles beside.

    python benchmarks/tiles.py [--steps 300] [--pages 50] [--append]

Needs torch (make .venv-local-models/installed). Both begin as bundled/llava and are trained alike on conversations about pages, in
.cache/models/tiles, where they go on if they are stopped; a quarter of an hour on one core. A page is brought to 64 x 64 pixels by
the one, and to 128 x 128 by the other. Scores: how often a caption of one of the four says each attribute right.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "models")]

from placing import CACHE, POOL, teller

from benchmarks.results import Row, append, versions
from madang.models.providers.clip_pair import load as load_pair
from madang.models.providers.seers import path_of
from madang.multimodal.llava.job import Wish, run
from madang.multimodal.llava.model import load
from madang.multimodal.llava.train import Recipe
from madang.multimodal.scenes.pages import examined

ATTRIBUTES = ("background", "count", "colour", "size", "shape", "position")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=300)
    options.add_argument("--pages", type=int, default=50)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--groups", type=int, default=20_000)
    options.add_argument("--append", action="store_true", help="add a row to benchmarks/RESULTS.md")
    chosen = options.parse_args()
    recipe = Recipe(steps=chosen.steps, batch=16, language=0, align=0, learning_rate=1e-3, warmup=20, threads=chosen.threads)
    side = load_pair(path_of("bundled/clip")).side
    told = []
    for name, tiles in (("whole", False), ("with tiles", True)):
        wish = Wish(CACHE / "tiles" / name.replace(" ", "-"), "bundled/llava", data="pages", recipe=recipe, groups=chosen.groups,
                    tiles=tiles, every=chosen.steps, pool=POOL, looks=40)
        run(wish, tell=lambda stage, name=name: teller()(name), say=lambda line: print(line, flush=True))
        seer = load(str(wish.out))
        found = examined(seer.answers, side, chosen.pages)
        shares = ", ".join(f"{each} {found[each]:.3f} (ko {found[f'{each} ko']:.3f})" for each in ATTRIBUTES)
        told.append(f"{name} ({seer.patches} tokens a page): {shares}")
        print(told[-1], flush=True)
    if chosen.append:
        append([Row(f"LLaVA with and without tiles, {chosen.pages} unseen pages of four scenes, {chosen.steps} steps each", "; ".join(told),
                    "python benchmarks/tiles.py", versions("madang", "torch", "transformers"))])


if __name__ == "__main__":
    main()
