"""Puts the trained model of pictures and texts in its place, measures it, and writes its card.

    python scripts/models/clip_card.py [--folder DIR] [--count 1000] [--append]

Takes minutes. Times are of one thread; on a busy machine they are too long, never too short.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from clip import FOLDER
from safetensors.torch import load_file, save_file

from madang.models.providers.bundled import FOLDER as BUNDLED
from madang.models.providers.onnx_clip import OnnxClip
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.words import LANGUAGES, prompt
from madang.multimodal.zero_shot import ZeroShot

OUT = BUNDLED / "clip"
KEPT = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "processor_config.json",
        "onnx/vision_int8.onnx", "onnx/text_int8.onnx")
ATTRIBUTES = ("colour", "background", "count", "time", "size", "shape", "position")


def placed(folder: Path) -> None:
    """The files that come along: int8 graphs, and weights in half precision."""
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "onnx").mkdir(parents=True)
    for name in KEPT:
        shutil.copy(folder / name, OUT / name)
    weights = load_file(folder / "model.safetensors")
    save_file({name: each.half() if each.is_floating_point() else each for name, each in weights.items()},
              OUT / "model.safetensors", metadata={"format": "pt"})
    digest = hashlib.sha256()
    for name in ("onnx/vision_int8.onnx", "onnx/text_int8.onnx", "tokenizer.json"):
        digest.update((OUT / name).read_bytes())
    config = json.loads((OUT / "config.json").read_text(encoding="utf-8"))
    config["madang"] |= {"name": "bundled/clip", "languages": ["en", "ko"], "sha256": digest.hexdigest()}
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def speed(model: OnnxClip, pictures: list[Any], texts: list[str]) -> dict[str, float]:
    """Milliseconds of one thread for each: the best of five rounds, all at once and one by one."""
    def best(call: Any, count: int) -> float:
        times = []
        for _ in range(5):
            begun = time.perf_counter()
            call()
            times.append(time.perf_counter() - begun)
        return min(times) / count * 1e3

    some = pictures[:64]
    return {"ms_per_image": best(lambda: model.embed_images(some), len(some)),
            "ms_per_image_alone": best(lambda: [model.embed_images([each]) for each in some], len(some)),
            "ms_per_text": best(lambda: model.embed(texts[:64]), 64),
            "ms_per_text_alone": best(lambda: [model.embed([each]) for each in texts[:64]], 64)}


def photographs(model: OnnxClip) -> dict[str, float]:
    """What it makes of real pictures, which it never saw: handwritten digits, and photographs that scikit-image brings."""
    from skimage import data
    from sklearn.datasets import load_digits

    digits = load_digits()
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    pictures = [np.repeat(np.kron((255 - each * 15.9).astype(np.uint8), np.ones((8, 8), np.uint8))[..., None], 3, 2)
                for each in digits.images[:500]]
    chosen = ZeroShot.of(model, {name: [f"the digit {name}", f"a picture of the number {name}"] for name in names}).best(
        model.embed_images(pictures))
    shown = {"a cat": data.chelsea(), "an astronaut": data.astronaut(), "a cup of coffee": data.coffee(),
             "a rocket": data.rocket()}
    found = ZeroShot.of(model, list(shown)).best(model.embed_images([np.asarray(each)[..., :3] for each in shown.values()]))
    return {"digits": float(np.mean([name == names[digit] for name, digit in zip(chosen, digits.target[:500], strict=True)])),
            "photographs": float(np.mean([one == other for one, other in zip(found, shown, strict=True)]))}


def measured(folder: Path, count: int) -> dict[str, Any]:
    """Everything on the card."""
    model, exact = OnnxClip(OUT, threads=1), OnnxClip(folder, threads=1, precision="fp32")
    held = exam.scenes_of("held-out", 256)
    pictures = list(exam.painted(held, 64))
    texts = [prompt(made, seed, LANGUAGES[seed % 2], split="held-out") for seed, made in held]
    lines = [json.loads(line) for line in (folder / "training" / "history.jsonl").read_text().splitlines()]
    with torch.inference_mode():
        scores = exam.examine(model, 64, count)
    return {**{name: round(value, 4) for name, value in scores.items()},
            **{name: round(value, 3) for name, value in speed(model, pictures, texts).items()},
            "cosine_images": round(float((model.embed_images(pictures) * exact.embed_images(pictures)).sum(1).min()), 5),
            "cosine_texts": round(float((model.embed(texts) * exact.embed(texts)).sum(1).min()), 5),
            **{f"real_{name}": round(value, 3) for name, value in photographs(model).items()},
            "steps": lines[-1]["step"], "minutes": round(lines[-1]["seconds"] / 60, 1), "n_scenes": count,
            "size_bytes": sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file() and path.name != "README.md"),
            "signature": model.signature, "dim": model.dim, "python": platform.python_version(),
            "torch": str(torch.__version__)}


def card(found: dict[str, Any]) -> str:
    """The README of the model's folder."""
    head = yaml.safe_dump({"license": "apache-2.0", "language": ["en", "ko"], "pipeline_tag": "zero-shot-image-classification",
                           "library_name": "madang", "madang": found}, sort_keys=False, allow_unicode=True)
    rows = "\n".join(f"| {name} | {found[name]:.3f} |" for name in ATTRIBUTES)
    return f"""---
{head}---

# bundled/clip

A model of pictures and texts (CLIP, Radford et al. 2021) of 4.3 million parameters, {found['dim']} dimensions,
{found['size_bytes'] / 1e6:.1f} MB with weights in half precision (`model.safetensors`) and int8 graphs (`onnx/`). It exists so that
searching pictures runs offline, through the same code as models of the hub.

**It knows painted scenes and nothing else**: one to three of eight shapes in eight colours and two sizes at nine positions,
over six backgrounds at four times of day, as `madang data scenes` paints them; prompts for these in English and Korean.
Of real pictures it makes nothing: handwritten digits are told at {found['real_digits']:.2f} (chance is .10), and
{found['real_photographs'] * 4:.0f} of four photographs get the right one of four descriptions. Use a model of the hub for those.

## How it was made

    make models        # runs: python scripts/models/clip.py && python scripts/models/clip_card.py

From nothing, on 160,000 scenes (20,000 seeds of the split "train", each with seven scenes that differ in one respect), seed 0,
batches of 256, {found['steps']:,} steps, {found['minutes']:.0f} minutes on one core (torch {found['torch']}, bfloat16). The decisions are in
`docs/decisions/0015-scenes-and-clip.md`. The first 650 steps were made with the label "nothing is here" at full weight, and
with a pool of scenes in which three things were rarer than one; then both were changed, and training went on. Its tokenizer
was made before the one that `clip.py` makes now: other numbers for the same words, and letters at the ends of words, which it
lacked, were added with the mean vector of all.

## What it knows

Measured by `scripts/models/clip_card.py` with the int8 graphs on {found['n_scenes']:,} scenes of reserved seeds that training never shows.

| text to picture, among {found['n_scenes']:,} | R@1 | R@5 |
|---|---|---|
| English prompts | {found['r@1']:.3f} | {found['r@5']:.3f} |
| Korean prompts | {found['r@1 ko']:.3f} | {found['r@5 ko']:.3f} |
| scenes with a pair of shape and colour that training never shows | {found['r@1 combinations']:.3f} | |

| zero-shot (prompts that name one attribute) | accuracy |
|---|---|
{rows}

Shape, colour, size and position are told of scenes with one thing; background, time and count of all.

int8 beside float32: the least cosine of 256 pictures is {found['cosine_images']:.4f}, of 256 prompts {found['cosine_texts']:.4f}. On one thread a picture
takes {found['ms_per_image']:.2f} ms and a prompt {found['ms_per_text']:.2f} ms in batches, {found['ms_per_image_alone']:.2f} ms and {found['ms_per_text_alone']:.2f} ms one by one.

## Limits

- Pictures are brought to 64 x 64 pixels.
- Prompts that are unlike the grammar's ("a dog", "sad") get some vector, too. Nothing tells that they mean nothing.
- "Not", "or" and comparisons were never in a prompt.
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--folder", type=Path, default=FOLDER)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--append", action="store_true", help="add a row to benchmarks/RESULTS.md")
    chosen = options.parse_args(sys.argv[1:])
    placed(chosen.folder)
    found = measured(chosen.folder, chosen.count)
    (OUT / "README.md").write_text(card(found), encoding="utf-8")
    print(json.dumps(found, indent=1))
    if chosen.append:
        sys.path.insert(0, str(BUNDLED.parents[3]))
        from benchmarks.results import Row, append, versions

        told = ", ".join(f"{name} {found[name]}" for name in ("r@1", "r@5", "r@1 ko", "r@5 ko", "r@1 combinations", *ATTRIBUTES,
                                                              "cosine_images", "cosine_texts", "ms_per_image", "ms_per_text",
                                                              "real_digits", "minutes"))
        append([Row("bundled/clip, int8, 1,000 unseen scenes", told, "python scripts/models/clip_card.py",
                    versions("madang", "onnxruntime", "torch", "transformers"))])


if __name__ == "__main__":
    main()
