"""Builds the bundled `observer`, which reads the attributes of painted scenes off pictures: the judge of what others draw.

    python scripts/models/observer.py [--steps N] [--threads N] [--append]

Takes ten minutes on one core. Stopped, it goes on where it was.
"""

from __future__ import annotations

import torch
from placing import BUNDLED, CACHE, POOL, append_row, head, options, size_bytes, teller

from madang.models.providers.clip_pair import load
from madang.multimodal import observer, training
from madang.multimodal.clip.batches import Scenes
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.observe import FILE, SIDE, Observer, claims_of
from madang.multimodal.scenes.read import agreement, tally

COUNT = 1000


def right(claims: list, held: list) -> dict[str, float]:
    """The share of each attribute that is read right."""
    found = tally(agreement(claim, made) for claim, (_, made) in zip(claims, held, strict=True))
    return {name: round(share, 4) for name, share in found.items()}


def main() -> None:
    chosen = options(__doc__, steps=(int, 1500), threads=(int, 0), groups=(int, 20_000), append=(bool, False))
    recipe = observer.Recipe(steps=chosen.steps, threads=chosen.threads)
    clip = load(str(BUNDLED / "clip"))
    scenes = Scenes(POOL, chosen.groups, SIDE, clip.patch)
    net = observer.Net()
    held = {split: exam.scenes_of(split, COUNT) for split in ("held-out", "combinations")}
    pictures = {split: exam.painted(each, SIDE) for split, each in held.items()}

    def look(_: int) -> dict[str, float]:
        net.eval()
        with torch.no_grad():
            return right(claims_of(*(each.numpy() for each in net(torch.from_numpy(pictures["held-out"])))), held["held-out"])

    folder = CACHE / "observer"
    training.train(observer.Observing(net, scenes, recipe), recipe, folder, look=look, every=500, tell=teller()("observer"))
    out = BUNDLED / "observer"
    out.mkdir(exist_ok=True)
    observer.export(net, out / FILE)
    found = {split: right(Observer(out).observe(list(pictures[split])), held[split]) for split in held}
    minutes = training.read_history(folder / training.HISTORY)[-1]["seconds"] / 60
    rows = "\n".join(f"| {name} | {value:.3f} | {found['combinations'][name]:.3f} |" for name, value in found["held-out"].items())
    parameters = sum(each.numel() for each in net.parameters())
    told = {"size_bytes": size_bytes(out), "parameters": parameters, "minutes": round(minutes, 1), "n_scenes": COUNT, **found}
    (out / "README.md").write_text(f"""{head("image-classification", told)}
# bundled/observer

Reads background, time, and what stands at each of nine places off a picture of a painted scene: {parameters:,} parameters, five
convolutions, {size_bytes(out) / 1e6:.1f} MB as ONNX. It judges what other models draw (`madang image roundtrip`, the card of bundled/unclip),
and has nothing to do with them: another architecture, other weights, no CLIP.

Made by `python scripts/models/observer.py`: 160,000 scenes of the split "train", half of each batch with noise, blurred, brighter
or darker, {chosen.steps:,} steps of {recipe.batch}, {minutes:.0f} minutes on one core. Measured on {COUNT:,} scenes of reserved seeds:

| attribute | unseen scenes | with a pair of shape and colour that training never shows |
|---|---|---|
{rows}

What is no painted scene is read as one all the same.
""", encoding="utf-8")
    print(told)
    if chosen.append:
        append_row(f"bundled/observer, {COUNT:,} unseen scenes", found, "python scripts/models/observer.py", "onnxruntime")


if __name__ == "__main__":
    main()
