"""Builds the bundled model that describes, `llava`: trained here, on painted scenes, from nothing, on the tower of bundled/clip.

    python scripts/models/llava.py [--steps N] [--threads N]

Takes an hour on one core with AMX. Stopped, it goes on where it was. Run llava_card.py afterwards: it measures, and puts the
weights in their place.
"""

from __future__ import annotations

from placing import CACHE, POOL, options, teller

from madang.multimodal.llava.job import Wish, run
from madang.multimodal.llava.train import Recipe

FOLDER = CACHE / "llava"


def main() -> None:
    chosen = options(__doc__, steps=(int, 3000), threads=(int, 0), groups=(int, 20_000))
    found = run(Wish(FOLDER, groups=chosen.groups, every=250, pool=POOL, recipe=Recipe(steps=chosen.steps, threads=chosen.threads)),
                tell=teller(), say=lambda line: print(line, flush=True))
    print({name: round(value, 4) for name, value in found.scores.items()})


if __name__ == "__main__":
    main()
