"""Builds the bundled model of pictures and texts, `clip`: trained here, on painted scenes, from nothing.

    python scripts/models/clip.py [--steps N] [--threads N] [--folder DIR]

Takes about an hour on one core with AMX, or minutes on a GPU. Stopped, it goes on where it was. Run clip_card.py afterwards:
it measures, and puts the weights in their place.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from madang.multimodal.clip.job import Wish, run
from madang.multimodal.clip.train import Recipe
from madang.multimodal.training import Told

FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "models" / "clip"


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--threads", type=int, default=0)
    options.add_argument("--groups", type=int, default=20_000)
    options.add_argument("--folder", type=Path, default=FOLDER)
    return options.parse_args(arguments)


def main() -> None:
    options = parsed(sys.argv[1:])
    begun = time.monotonic()

    def told(now: Told) -> None:
        if now.step % 20 == 0:
            seen = ", ".join(f"{name} {value:.3f}" for name, value in now.scores.items())
            print(f"{now.step:5d}  {time.monotonic() - begun:6.0f} s  loss {now.loss:.3f}  {seen}", flush=True)

    found = run(
        Wish(
            options.folder,
            groups=options.groups,
            every=200,
            recipe=Recipe(steps=options.steps, threads=options.threads, learning_rate=1e-3),
        ),
        tell=told,
        say=lambda line: print(line, flush=True),
    )
    print({name: round(value, 4) for name, value in found.scores.items()})


if __name__ == "__main__":
    main()
