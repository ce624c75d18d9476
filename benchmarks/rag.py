"""How fast is it? Ingest rate of both bundled embedders, and the latency of `ask` on 50,000 chunks.

    python benchmarks/rag.py [--chunks 50000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import madang
from benchmarks.results import Row, versions
from examples import pydoc_corpus
from madang.rag.chunk import chunk, embedding_text
from madang.rag.load import load

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = [json.loads(line)["question"] for line in
             (ROOT / "tests/data/pydoc_qa.jsonl").read_text(encoding="utf-8").splitlines()]


def ingest_static(folder: Path) -> dict[str, float]:
    """Chunks per second of a whole ingest (load, chunk, embed, analyze, commit) with bundled/static."""
    corpus = folder / "full"
    pydoc_corpus.write(corpus, pydoc_corpus.every_module())
    rates = []
    for repeat in range(3):
        with madang.open(folder / f"static{repeat}") as ws:
            report = ws.ingest(corpus, embedder="bundled/static")
            rates.append(report.chunks_per_second)
    return {"chunks": report.chunks, "chunks_per_s": round(statistics.median(rates)),
            "corpus_chars_per_chunk": round(sum(len(p.read_text()) for p in corpus.iterdir()) / report.chunks)}


def ingest_minilm(folder: Path) -> dict[str, float]:
    """The same with bundled/minilm, as a ratio of what onnxruntime alone reaches on the same chunks; nine rounds in turns,
    because the speed of a shared machine changes by half from one second to the next."""
    corpus = folder / "part"
    files = pydoc_corpus.write(corpus, ["argparse", "json", "pathlib", "random", "shutil"])
    texts = []
    for path in files:
        document = load(path)
        texts += [embedding_text(piece, document) for piece in chunk(document)]
    alone, rates = [], []
    with madang.open(folder / "minilm") as ws:
        for repeat in range(9):
            alone.append(_bare_onnxruntime(ws.models.embedder("bundled/minilm"), texts))
            report = ws.ingest(corpus, f"round{repeat}", embedder="bundled/minilm")
            rates.append(report.chunks_per_second)
    return {"chunks": report.chunks, "chunks_per_s": round(statistics.median(rates), 1),
            "ratio_to_onnxruntime": round(statistics.median(rates) / statistics.median(alone), 3)}


def _bare_onnxruntime(embedder: Any, texts: list[str]) -> float:
    """Texts per second of `session.run` alone on all cores: tokenized and batched beforehand, batches side by side."""
    batches = embedder.batches(texts)
    outputs = [output.name for output in embedder.session.get_outputs()]
    wanted = ["sentence_embedding" if "sentence_embedding" in outputs else outputs[0]]
    embedder.session.run(wanted, batches[0])
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda batch: embedder.session.run(wanted, batch), batches))
    return len(texts) / (time.perf_counter() - start)


def ask(folder: Path, chunks: int) -> dict[str, float]:
    """Latency of `ask` after start, over a collection of `chunks` chunks; milliseconds."""
    corpus = folder / "full"
    pydoc_corpus.write(corpus, pydoc_corpus.every_module())
    with madang.open(folder / "big") as ws:
        model = ws.models.embedder("bundled/minilm")
        ws.ingest(corpus, "once", embedder="bundled/static")
        once = ws.collection("once")
        target = ws._database.create("docs", model.dim, embedder=model.signature)
        _fill(once, target, model, chunks)
        ws.ask(QUESTIONS[0])  # after start: models and index are loaded
        times = []
        for question in QUESTIONS:
            started = time.perf_counter()
            ws.ask(question)
            times.append((time.perf_counter() - started) * 1e3)
        return {"chunks": target.stats().records, "median_ms": round(statistics.median(times), 1),
                "p95_ms": round(sorted(times)[int(len(times) * 0.95)], 1), "n": len(times)}


def _fill(once: Any, target: Any, model: Any, chunks: int) -> None:
    """Real chunks with their words and places, repeated under new ids until there are enough; vectors jittered.

    Embedding 50,000 chunks takes minutes and says nothing about latency: each repetition turns the vectors of the
    first by a little noise instead.
    """
    import numpy as np

    ids = []
    page = once.list_ids(limit=10_000)
    ids += page.ids
    while page.cursor:
        page = once.list_ids(limit=10_000, cursor=page.cursor)
        ids += page.ids
    records = list(once.fetch(ids[:4_000]).values())
    vectors = model.embed([record.document[:300] for record in records])
    generator = np.random.default_rng(0)
    copy = 0
    while target.stats().records < chunks:
        batch = records[:chunks - target.stats().records]
        noise = generator.standard_normal((len(batch), model.dim)).astype(np.float32) * 0.02
        target.upsert([{"id": f"{copy}-{r.id}", "values": v, "metadata": r.metadata, "document": r.document,
                        "context": r.context} for r, v in zip(batch, vectors[:len(batch)] + noise, strict=True)])
        copy += 1


def measure(chunks: int = 50_000) -> dict[str, dict[str, float]]:
    """All three."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {"ingest bundled/static": ingest_static(folder), "ingest bundled/minilm": ingest_minilm(folder),
                f"ask on {chunks:,} chunks": ask(folder, chunks)}


def rows() -> list[Row]:
    """For RESULTS.md."""
    signature = versions("numpy", "onnxruntime", "tokenizers")
    notes = {"ask": "; 4,000 real chunks repeated with 0.02 noise on their vectors"}
    return [Row(name, ", ".join(f"{key} {value:,}" for key, value in result.items()), "python benchmarks/rag.py",
                signature + notes.get(name.split()[0], ""))
            for name, result in measure().items()]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--chunks", type=int, default=50_000)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    print(json.dumps(measure(chosen.chunks), indent=None if chosen.json else 2))


if __name__ == "__main__":
    main()
