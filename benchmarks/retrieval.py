"""Does retrieval find what it should? A known-item set from docstrings, and the Korean set over the Korean guide.

    python benchmarks/retrieval.py [--embedder bundled/minilm] [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import madang
from benchmarks.known_item import Item, items
from benchmarks.metrics import hit, ndcg
from benchmarks.results import Row, versions
from madang.base.stats import bootstrap_mean, paired_test, wilson
from madang.rag.retrieve import MODES
from madang.store import Fusion

ROOT = Path(__file__).resolve().parents[1]


def known_item(embedder: str = "bundled/minilm", fusion: Fusion | None = None,
               chosen: list[Item] | None = None) -> dict[str, Any]:
    """nDCG@10 and hit rate of dense, BM25 and hybrid, with intervals, and paired tests of hybrid against each."""
    chosen = chosen or items()
    scores: dict[str, dict[str, list[float]]] = {mode: {"ndcg@10": [], "hit@10": [], "hit@1": []} for mode in MODES}
    with tempfile.TemporaryDirectory() as folder, madang.open(folder) as ws:
        model = ws.models.embedder(embedder)
        docs = ws.create_collection("items", model.dim)
        used = fusion or Fusion(dense=model.dense_weight)  # as `ask` and `search` fuse
        vectors = model.embed([item.document for item in chosen], "document")
        docs.upsert([{"id": item.id, "values": vector, "document": item.document}
                     for item, vector in zip(chosen, vectors, strict=True)])
        queries = model.embed([item.query for item in chosen], "query")
        for item, query in zip(chosen, queries, strict=True):
            for mode in MODES:
                found = docs.query(vector=None if mode == "bm25" else query, text=None if mode == "dense" else item.query,
                                   top_k=10, include_metadata=False, fusion=used)
                ranking = [match.id for match in found.matches]
                scores[mode]["ndcg@10"].append(ndcg(ranking, item.id))
                scores[mode]["hit@10"].append(hit(ranking, item.id))
                scores[mode]["hit@1"].append(hit(ranking, item.id, 1))
        signature = f"{model.signature}, {docs.analyzer.signature}, {used}"
    return {"n": len(chosen), "signature": signature, "scores": {
        mode: {metric: _interval(values) for metric, values in metrics.items()} for mode, metrics in scores.items()},
        "hybrid_minus": {mode: {metric: _difference(scores["hybrid"][metric], scores[mode][metric])
                                for metric in ("ndcg@10", "hit@10")} for mode in ("dense", "bm25")}}


def korean(embedder: str = "bundled/minilm") -> dict[str, Any]:
    """hit@1 and hit@3 of the hand-written Korean questions: a passage that holds the expected quote."""
    rows = [json.loads(line) for line in (ROOT / "tests/data/korean_qa.jsonl").read_text(encoding="utf-8").splitlines()]
    ranks: list[int | None] = []
    with tempfile.TemporaryDirectory() as folder, madang.open(folder) as ws:
        ws.ingest(ROOT / "docs" / "guide" / "ko", embedder=embedder)
        for row in rows:
            found = ws.search(row["question"], top_k=10)
            ranks.append(next((rank for rank, passage in enumerate(found, 1)
                               if Path(passage.source).name == row["file"] and row["quote"] in passage.text), None))
        signature = f"{ws.collection('docs').embedder}, {ws.collection('docs').analyzer.signature}"
    by_kind = {kind: [r is not None and r <= 3 for r, row in zip(ranks, rows, strict=True) if row["kind"] == kind]
               for kind in sorted({row["kind"] for row in rows})}
    return {"n": len(rows), "signature": signature,
            "hit@1": _proportion([r == 1 for r in ranks]), "hit@3": _proportion([r is not None and r <= 3 for r in ranks]),
            "hit@3 by kind": {kind: f"{sum(hits)}/{len(hits)}" for kind, hits in by_kind.items()},
            "missed": [row["question"] for r, row in zip(ranks, rows, strict=True) if r is None or r > 3]}


def _interval(values: list[float]) -> dict[str, float]:
    interval = bootstrap_mean(values)
    return {"mean": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def _difference(a: list[float], b: list[float]) -> dict[str, float]:
    test = paired_test(a, b)
    return {"difference": round(test.difference, 4), "low": round(test.low, 4), "high": round(test.high, 4),
            "p": round(test.p_value, 4)}


def _proportion(hits: list[bool]) -> dict[str, float]:
    interval = wilson(sum(hits), len(hits))
    return {"mean": round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def rows() -> list[Row]:
    """For RESULTS.md."""
    made = []
    for embedder in ("bundled/minilm", "bundled/static"):
        result = known_item(embedder)
        text = "; ".join(f"{mode} nDCG@10 {s['ndcg@10']['mean']:.3f} [{s['ndcg@10']['low']:.3f}, {s['ndcg@10']['high']:.3f}] "
                         f"hit@10 {s['hit@10']['mean']:.3f}" for mode, s in result["scores"].items())
        gains = "; ".join(f"hybrid - {mode} {d['ndcg@10']['difference']:+.3f} (p {d['ndcg@10']['p']:.4f})"
                          for mode, d in result["hybrid_minus"].items())
        made.append(Row(f"known-item retrieval, {embedder}, n={result['n']}", f"{text}; {gains}",
                        f"python benchmarks/retrieval.py --embedder {embedder}",
                        f"{result['signature']}; {versions('numpy')}"))
    result = korean()
    made.append(Row(f"Korean questions over the Korean guide, n={result['n']}",
                    f"hit@3 {result['hit@3']['mean']:.3f} [{result['hit@3']['low']:.3f}, {result['hit@3']['high']:.3f}], "
                    f"hit@1 {result['hit@1']['mean']:.3f}; hit@3 by kind {result['hit@3 by kind']}",
                    "python benchmarks/retrieval.py", result["signature"]))
    return made


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--embedder", default="bundled/minilm")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    result = {"known_item": known_item(chosen.embedder), "korean": korean(chosen.embedder)}
    print(json.dumps(result, ensure_ascii=False, indent=None if chosen.json else 2))


if __name__ == "__main__":
    main()
