"""Puts the trained `unclip` in its place, measures it, and writes its card.

    python scripts/models/unclip_card.py [--count 256] [--append] [--sheet FILE]

Takes some minutes.
"""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from placing import append_row, head, options, placed, size_bytes
from unclip import FOLDER

from madang.models.protocol import DrawOptions
from madang.models.providers.bundled import BundledProvider
from madang.multimodal import sheet, training
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.observe import Observer
from madang.multimodal.scenes.read import agreement, tally
from madang.multimodal.scenes.words import LANGUAGES, prompt

FILES = ("model_index.json", "prior/config.json", "prior/diffusion_pytorch_model.safetensors", "prior_scheduler/scheduler_config.json",
         "decoder/config.json", "decoder/diffusion_pytorch_model.safetensors", "decoder/layout.safetensors",
         "scheduler/scheduler_config.json")
ATTRIBUTES = ("background", "time", "count", "colour", "size", "shape", "position")


def measured(count: int, path: Path | None) -> dict[str, Any]:
    """Everything on the card."""
    draws, clip = BundledProvider().image_generator("unclip"), BundledProvider().image_embedder("clip")
    held = exam.scenes_of("held-out", count)
    pictures = exam.painted(held, 64)
    seen = clip.embed_images(list(pictures))
    found: dict[str, Any] = {}
    rows = []
    for language in LANGUAGES:
        end = "" if language == "en" else " ko"
        texts = [prompt(made, seed, language, split="held-out") for seed, made in held]
        imagined = draws.imagine(clip.embed(texts))
        found[f"prior_cosine{end}"] = round(float((imagined * seen).sum(1).mean()), 4)
        drawn = [np.asarray(Image.open(io.BytesIO(draws.draw(text, DrawOptions(seed=seed))[0].data)))
                 for text, (seed, _) in zip(texts, held, strict=True)]
        right = tally(agreement(claim, made) for claim, (_, made) in zip(Observer().observe(drawn), held, strict=True))
        found |= {f"{name}{end}": round(share, 4) for name, share in right.items()}
        vectors = clip.embed_images(drawn)
        found[f"similarity{end}"] = round(float((vectors * seen).sum(1).mean()), 4)
        if language == "en":
            rows = [sheet.Row("", [sheet.Cell(Image.fromarray(drawn[at]), texts[at]) for at in range(start, start + 6)])
                    for start in range(0, min(count, 24), 6)]
    if path is not None:
        path.write_bytes(sheet.png(rows, side=192, title="bundled/unclip, prompts of unseen scenes"))
    times = []
    for seed in range(5):
        begun = time.perf_counter()
        draws.draw("a red star at the top", DrawOptions(seed=seed))
        times.append(time.perf_counter() - begun)
    return {**found, "seconds_per_picture": round(float(np.median(times)), 3), "threads": torch.get_num_threads(), "n_prompts": count}


def card(found: dict[str, Any]) -> str:
    """The README of the model's folder."""
    rows = "\n".join(f"| {name} | {found[name]:.3f} | {found[f'{name} ko']:.3f} |" for name in ATTRIBUTES)
    return f"""{head("text-to-image", found)}
# bundled/unclip

A model that draws: unCLIP (Ramesh et al. 2022) with the vectors of bundled/clip. A prior of {found['prior_parameters']:,} parameters makes the
vector of a picture from that of a text, a U-Net of {found['decoder_parameters']:,} draws 64 x 64 pixels from it; {found['size_bytes'] / 1e6:.1f} MB in half precision,
in diffusers' formats. It exists so that drawing runs offline, through the same protocol as models of the hub and services.

**It draws painted scenes and nothing else**: see bundled/clip. Any other prompt gives some scene. Larger sizes are enlarged.

## How it was made

    make models        # runs: python scripts/models/unclip.py && python scripts/models/unclip_card.py

On 160,000 scenes of the split "train", seed 0, one shared core (torch, bfloat16): the decoder's layout {found['layout_steps']:,} steps of 256 in
{found['layout_minutes']:.0f} minutes; the prior {found['prior_steps']:,} steps of 512 in {found['prior_minutes']:.0f} minutes, with prompts of both languages; the decoder {found['decoder_steps']:,} steps of 64
in {found['decoder_minutes']:.0f} minutes, a tenth of them from nothing, for guidance. The first 5,000 steps of this prior counted the vectors alone,
the rest also what the layout sees in them; the decoder's learning rate fell as for 10,000 steps until step 1,355, then as for
5,000. The decisions are in `docs/decisions/0016-llava-and-unclip.md`.

## What it draws

Measured by `scripts/models/unclip_card.py` on prompts of {found['n_prompts']} scenes of reserved seeds, 20 steps of DDIM, guidance 3, the best by
the text of four vectors that the prior imagines. What is drawn is read
by bundled/observer, which was trained apart.

| attribute | English prompts | Korean prompts |
|---|---|---|
{rows}

The prior's vectors have a cosine of {found['prior_cosine']:.3f} (Korean {found['prior_cosine ko']:.3f}) to those of the true pictures, what is drawn one of
{found['similarity']:.3f} ({found['similarity ko']:.3f}). A picture takes {found['seconds_per_picture']:.2f} s with {found['threads']} threads.
"""


def main() -> None:
    chosen = options(__doc__, count=(int, 256), append=(bool, False), sheet=(Path, None))
    out = placed(FOLDER, "unclip", {name: name for name in FILES})
    found = measured(chosen.count, chosen.sheet)
    from madang.models.providers.unclip import load

    made = load(out)
    for part, module in (("layout", made.decoder.layout), ("prior", made.prior.transformer), ("decoder", made.decoder.unet)):
        last = training.read_history(FOLDER / "training" / part / training.HISTORY)[-1]
        found |= {f"{part}_steps": last["step"], f"{part}_minutes": round(last["seconds"] / 60, 1),
                  f"{part}_parameters": sum(each.numel() for each in module.parameters())}
    found["size_bytes"] = size_bytes(out)
    (out / "README.md").write_text(card(found), encoding="utf-8")
    print(json.dumps(found, indent=1))
    if chosen.append:
        append_row(f"bundled/unclip, prompts of {chosen.count} unseen scenes", found, "python scripts/models/unclip_card.py",
                   "diffusers")


if __name__ == "__main__":
    main()
