"""Texts per second of the bundled embedders, and of `minilm` against ONNX Runtime alone.

    python benchmarks/embed.py [--texts N] [--rounds N] [--json]

The texts are the manuals of a few standard modules: sentences of 30 to 120 characters, and chunks of 800. The
ratios compare `embed` with `session.run` on the same batches, already tokenised and sorted, in the same rounds. With
one thread each, what is missing to 1 is the price of tokenising, grouping and collecting; with all cores, ONNX
Runtime shares each batch among them, while `embed` runs batches side by side. All values are medians over the rounds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pydoc
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnxruntime

from benchmarks.results import Row, versions
from madang.models.providers.bundled import FOLDER, BundledProvider
from madang.models.providers.onnx_embedder import OnnxEmbedder

MODULES = ("argparse", "collections", "datetime", "decimal", "email.message", "http.client", "inspect", "json",
           "logging", "os", "pathlib", "random", "re", "socket", "sqlite3", "statistics", "subprocess", "typing")


def material() -> dict[str, list[str]]:
    """Short sentences and 800-character chunks, each text once."""
    found: dict[str, list[str]] = {"sentences": [], "chunks": []}
    for module in MODULES:
        text = " ".join(pydoc.plain(pydoc.render_doc(importlib.import_module(module))).replace("|", " ").split())
        found["sentences"] += [s for s in re.split(r"(?<=[.!?])\s+", text) if 30 <= len(s) <= 120]
        found["chunks"] += [text[start:start + 800] for start in range(0, len(text) - 800, 800)]
    return {name: list(dict.fromkeys(texts)) for name, texts in found.items()}


def alternate(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each function; they take turns, so that a busy moment meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):         # the first round warms up
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def minilm(texts: list[str], rounds: int) -> dict[str, float]:
    """Rate of `embed` and its ratio to bare `session.run`, one thread against one and all cores against all."""
    alone, embedder = OnnxEmbedder(FOLDER / "minilm", threads=1), OnnxEmbedder(FOLDER / "minilm")
    feeds, one = alone.batches(texts), alone.session
    every = onnxruntime.InferenceSession(str(FOLDER / "minilm" / "onnx" / "model_int8.onnx"), providers=["CPUExecutionProvider"])
    seconds = alternate({
        "embed": lambda: embedder.embed(texts), "embed on one": lambda: alone.embed(texts),
        "bare": lambda: [every.run(["sentence_embedding"], feed) for feed in feeds],
        "bare on one": lambda: [one.run(["sentence_embedding"], feed) for feed in feeds]}, rounds)
    return {"texts_per_s": len(texts) / seconds["embed"], "texts_per_s_one_thread": len(texts) / seconds["embed on one"],
            "ratio_to_bare_onnxruntime": seconds["bare"] / seconds["embed"],
            "ratio_to_bare_onnxruntime_one_thread": seconds["bare on one"] / seconds["embed on one"]}


def static(texts: list[str], rounds: int) -> dict[str, float]:
    """Rate of `embed`."""
    embedder = BundledProvider().embedder("static")
    return {"texts_per_s": len(texts) / alternate({"embed": lambda: embedder.embed(texts)}, rounds)["embed"]}


def query(text: str, rounds: int) -> dict[str, float]:
    """Milliseconds for one short query."""
    found = {}
    for name in ("minilm", "static"):
        embedder = BundledProvider().embedder(name)
        found[f"{name}_ms"] = 1000 * alternate({name: lambda e=embedder: e.embed([text], "query")}, rounds)[name]
    return found


def measure(count: int = 512, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Everything: case -> what -> value. `count` sentences go to minilm, and a quarter as many chunks."""
    texts = material()
    found: dict[str, dict[str, float]] = {}
    for name, some in (("sentences", count), ("chunks", max(1, count // 4))):
        found[f"minilm {name}"] = minilm(texts[name][:some], rounds)
        found[f"static {name}"] = static(texts[name], rounds)
    found["one query"] = query("How many vacation days do employees get?", 10 * rounds)
    return found


def rows() -> list[Row]:
    """For RESULTS.md."""
    signatures = ", ".join(BundledProvider().embedder(name).signature for name in ("minilm", "static"))
    return [Row(f"embedding, {case}", ", ".join(f"{key} {value:,.2f}" for key, value in values.items()),
                "python benchmarks/embed.py", f"{signatures}; {versions('numpy', 'onnxruntime', 'tokenizers')}")
            for case, values in measure().items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Texts per second of the bundled embedders.")
    parser.add_argument("--texts", type=int, default=512, help="sentences given to minilm; chunks: a quarter of it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measure(options.texts, options.rounds)
    if options.json:
        print(json.dumps(found))
        return
    for case, values in found.items():
        print(f"{case:18s} " + "   ".join(f"{key} {value:,.2f}" for key, value in values.items()))


if __name__ == "__main__":
    main()
