"""Builds the bundled model that draws, `unclip`: trained here, on painted scenes, from nothing, with the vectors of bundled/clip.

    python scripts/models/unclip.py [--steps N] [--prior-steps N] [--layout-steps N] [--threads N]

Takes an hour and a half on one core with AMX. Stopped, it goes on where it was. Run unclip_card.py afterwards: it measures, and
puts the weights in their place.
"""

from __future__ import annotations

from placing import CACHE, POOL, options, teller

from madang.multimodal.unclip import decoder, prior, sketch
from madang.multimodal.unclip.job import Wish, run

FOLDER = CACHE / "unclip"


def main() -> None:
    chosen = options(__doc__, steps=(int, 5000), prior_steps=(int, 5000), layout_steps=(int, 4000), threads=(int, 0), groups=(int, 20_000))
    wish = Wish(FOLDER, groups=chosen.groups, every=250, pool=POOL,
                prior=prior.Recipe(steps=chosen.prior_steps, threads=chosen.threads),
                layout=sketch.Recipe(steps=chosen.layout_steps, threads=chosen.threads),
                decoder=decoder.Recipe(steps=chosen.steps, batch=64, warmup=200, weight_decay=0.01, threads=chosen.threads))
    found = run(wish, tell=teller(), say=lambda line: print(line, flush=True))
    print({name: round(value, 4) for name, value in found.scores.items()})


if __name__ == "__main__":
    main()
