"""The round trip of held-out scenes: how much of a picture comes back from which words, beside those of a random prompt.

    python benchmarks/roundtrip.py [--count 100] [--seed 0] [--append] [--sheet FILE]

Needs torch (make .venv-local-models/installed). Takes some minutes. Each picture is drawn from what bundled/llava says of it,
from its own prompt, from the nearest of 1,000 stored prompts, and from a random one of these, by bundled/unclip.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.results import Row, append, versions
from madang.base.stats import bootstrap_mean, paired_test
from madang.models.protocol import DrawOptions
from madang.models.providers.bundled import BundledProvider
from madang.multimodal import sheet
from madang.multimodal.roundtrip import Gallery, Prompts, RoundTrip, Travel
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.observe import Observer
from madang.multimodal.scenes.read import agreement, tally
from madang.multimodal.scenes.words import prompt
from madang.workspace.pictures import describe

STORED = 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--append", action="store_true", help="add rows to benchmarks/RESULTS.md")
    options.add_argument("--sheet", type=Path, help="a PNG of the first twelve")
    chosen = options.parse_args()
    models = BundledProvider()
    observer = Observer()
    seer, painter, says = models.image_embedder("clip"), models.image_generator("unclip"), models.chat_model("llava")
    stored = exam.scenes_of("train", STORED)
    prompts = Prompts.of([prompt(made, seed) for seed, made in stored], seer)
    held = exam.scenes_of("held-out", chosen.count)
    pictures = exam.painted(held, 64)
    vectors = seer.embed_images(list(pictures))
    generator = np.random.default_rng(chosen.seed)
    similarity: dict[str, list[float]] = {}
    found_first: dict[str, list[float]] = {}
    attributes: dict[str, list[float]] = {}
    rows = []
    for at, (seed, made) in enumerate(held):
        travel = Travel(lambda each: describe(says, each), says.name, painter, seer, prompts, Gallery(np.delete(vectors, at, 0)))
        trip: RoundTrip = travel.go(pictures[at], f"{at}", prompt=prompt(made, seed, split="held-out"), scene=made, seed=chosen.seed + at)
        results = {each.way: (each.similarity, float(each.rank == 1), float(np.mean(list(each.attributes.values())))) for each in trip.versions}
        text = prompts.texts[int(generator.integers(len(prompts.texts)))]
        drawn = np.asarray(Image.open(io.BytesIO(painter.draw(text, DrawOptions(seed=chosen.seed + at))[0].data)))
        vector = seer.embed_images([drawn])[0]
        right = tally([agreement(observer.observe([drawn])[0], made)])
        results["random"] = (float(vector @ vectors[at]), float((vectors @ vector).argmax() == at),
                             float(np.mean(list(right.values()))))
        for way, (near, first, kept) in results.items():
            similarity.setdefault(way, []).append(near)
            found_first.setdefault(way, []).append(first)
            attributes.setdefault(way, []).append(kept)
        if at < 12:
            cells = [sheet.Cell(Image.fromarray(pictures[at]), "the picture")]
            cells += [sheet.Cell(Image.open(io.BytesIO(each.picture)), f"{each.similarity:.2f} {each.way}") for each in trip.versions]
            rows.append(sheet.Row(trip.versions[0].prompt, [*cells, sheet.Cell(Image.fromarray(drawn), f"{vector @ vectors[at]:.2f} random")]))
    told = []
    for way, near in similarity.items():
        mean = bootstrap_mean(near)
        line = (f"{way}: similarity {mean.mean:.3f} [{mean.low:.3f}, {mean.high:.3f}], found first {np.mean(found_first[way]):.2f}, "
                f"attributes {np.mean(attributes[way]):.3f}")
        if way != "random":
            against = paired_test(near, similarity["random"])
            line += f", above random by {against.difference:.3f} [{against.low:.3f}, {against.high:.3f}], p {against.p_value:.4f}"
        told.append(line)
    between = paired_test(similarity["original"], similarity["description"])
    told.append(f"original above description by {between.difference:.3f} [{between.low:.3f}, {between.high:.3f}], p {between.p_value:.4f}")
    print("\n".join(told))
    if chosen.sheet:
        chosen.sheet.write_bytes(sheet.png(rows, side=160, title="There and back"))
    if chosen.append:
        append([Row(f"round trip, {chosen.count} held-out scenes, bundled models", "; ".join(told), "python benchmarks/roundtrip.py",
                    versions("madang", "torch", "transformers", "diffusers"))])


if __name__ == "__main__":
    main()
