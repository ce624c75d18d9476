"""Builds the bundled language model of bytes, `mamba` (Mamba-2), and the transformer of its size that it is compared with.

    python scripts/models/mamba.py [--steps N] [--threads N]

Trained here from nothing, on the source of Python's standard library (of the Python that runs this). Takes half an hour on one shared core.
Stopped, it goes on where it was. Run mamba_card.py afterwards: it measures, and puts the weights in their place.
"""

from __future__ import annotations

from placing import CACHE, options, teller

from madang.multimodal.mamba.job import Recipe, Wish, run
from madang.multimodal.mamba.language import KINDS

FOLDER = CACHE / "mamba"


def main() -> None:
    chosen = options(__doc__, steps=(int, 1000), threads=(int, 0))
    for kind in KINDS:
        wish = Wish(FOLDER / kind, kind, recipe=Recipe(steps=chosen.steps, threads=chosen.threads), every=250)
        found = run(wish, tell=teller()(kind), say=lambda line: print(line, flush=True))
        print(kind, {name: round(value, 4) for name, value in found.scores.items()})


if __name__ == "__main__":
    main()
