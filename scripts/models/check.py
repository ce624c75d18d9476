"""Measures the bundled embedders against their teacher and writes their cards (README.md in their folders).

    python scripts/models/check.py [minilm] [static]

The teacher runs in sentence-transformers on torch, the embedders in Madang's own loaders. Prints the numbers as
JSON. Takes a few minutes. Speed is per second of CPU time of one thread, so that a busy machine does not spoil it.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import layout
import numpy as np
import teacher
import texts
from numpy.typing import NDArray
from scoring import known_item_scores, nearest_is_partner, pair_similarities, spearman

sys.path.insert(0, str(layout.BUNDLED.parents[2]))      # src: the checkout, not an installed version

from madang.models.providers.onnx_embedder import OnnxEmbedder
from madang.models.providers.static_embedder import StaticEmbedder

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def material() -> dict[str, list[str]]:
    """Everything that is embedded, by purpose."""
    queries, documents = texts.known_items()
    pick = random.Random(0)
    return {"paraphrases": [sentence for pair in texts.paraphrases() for sentence in pair],
            "short": pick.sample(texts.sentences(texts.JUDGING_MODULES), 256),
            "chunks": pick.sample(texts.chunks(texts.JUDGING_MODULES), 64),
            "queries": queries, "documents": documents}


def quality(student: Mapping[str, NDArray[np.float32]], judge: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    """The numbers of the cards, from vectors by purpose of the student and of the teacher."""
    own, theirs = pair_similarities(student["paraphrases"]), pair_similarities(judge["paraphrases"])
    ndcg, hit, first = known_item_scores(student["queries"], student["documents"])
    judge_ndcg, judge_hit, judge_first = known_item_scores(judge["queries"], judge["documents"])
    found = {"spearman": spearman(own, theirs), "paraphrase_at_1": nearest_is_partner(student["paraphrases"]),
             "teacher_paraphrase_at_1": nearest_is_partner(judge["paraphrases"]), "ndcg_at_10": ndcg,
             "teacher_ndcg_at_10": judge_ndcg, "hit_at_1": hit, "teacher_hit_at_1": judge_hit,
             "same_first_hit": float((first == judge_first).mean())}
    if student["short"].shape == judge["short"].shape:
        cosines = np.concatenate([(student[name] * judge[name]).sum(axis=1) for name in judge])
        found |= {"cosine_mean": float(cosines.mean()), "cosine_min": float(cosines.min())}
    return {name: round(value, 4) for name, value in found.items()} | {
        "n_texts": sum(map(len, judge.values())), "n_sentences": len(judge["paraphrases"]), "n_pairs": len(own),
        "n_items": len(judge["queries"])}


def rate(embed: Embed, given: Sequence[str], rounds: int = 5) -> int:
    """Texts per CPU second, the median of `rounds`."""
    embed(given)
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        embed(given)
        seconds.append(time.process_time() - start)
    return round(len(given) / float(np.median(seconds)))


def cpu_name() -> str:
    """The processor and whether it has VNNI, which decides the speed of int8."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    name = lines.partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
    return f"{name or platform.machine()}, {'with' if 'vnni' in lines else 'without'} VNNI"


def write_card(folder: Path, name: str, facts: Mapping[str, Any]) -> None:
    """README.md: the numbers as front matter, then the text of cards/NAME.md with the numbers filled in."""
    head = {"license": "apache-2.0", "language": ["en"], "base_model": teacher.NAME,
            "pipeline_tag": "sentence-similarity", "library_name": "madang"}
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    lines += ["madang:", *(f"  {key}: {json.dumps(value)}" for key, value in facts.items())]
    body = (Path(__file__).parent / "cards" / f"{name}.md").read_text(encoding="utf-8").format(**facts)
    (folder / "README.md").write_text("---\n" + "\n".join(lines) + "\n---\n\n" + body, encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Measure the bundled embedders and write their cards.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="minilm, static; default: both")
    names = parser.parse_args().names or ["minilm", "static"]
    given = material()
    reference = teacher.reference()
    judge = {name: np.asarray(reference.encode(some, normalize_embeddings=True)) for name, some in given.items()}
    for name in names:
        folder = layout.BUNDLED / name
        embedder = OnnxEmbedder(folder, threads=1) if name == "minilm" else StaticEmbedder(folder)
        weights = folder / layout.read_json(folder / "config.json")["madang"]["weights"]
        size = weights.stat().st_size
        facts = {"teacher": teacher.NAME, "teacher_url": f"https://huggingface.co/{teacher.NAME}",
                 "teacher_sha256": teacher.WEIGHTS_SHA256, "package": teacher.PACKAGE,
                 "signature": embedder.signature, "dim": embedder.dim, "size_bytes": size,
                 "size_mb": round(size / 1e6, 1), "python": platform.python_version(), "cpu": cpu_name(),
                 "max_tokens": getattr(embedder, "max_tokens", None),
                 **quality({key: embedder.embed(some) for key, some in given.items()}, judge),
                 "short_per_s": rate(embedder.embed, given["short"] * (1 if name == "minilm" else 20)),
                 "chunks_per_s": rate(embedder.embed, given["chunks"] * (1 if name == "minilm" else 10))}
        write_card(folder, name, facts)
        print(json.dumps({name: facts}, indent=2), flush=True)


if __name__ == "__main__":
    main()
