"""Fit and calibrate `bundled/reader` on questions with and without an answer; writes config.json and the card.

    python scripts/models/reader.py [--check]

Two corpora: pydoc of the modules asked about (English questions), and the project's guide (English and Korean). For
each question the passages are retrieved as `ask` retrieves them. Whether they answer is a logistic model on the
reader's four features, fitted on every other question and judged on the rest. The threshold is the one that maximizes
balanced accuracy on the fitting half. `--check` measures the committed numbers without writing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray

import madang
from examples import pydoc_corpus
from madang.base.stats import wilson
from madang.models.protocol import Evidence
from madang.models.providers.extractive import FEATURES, ExtractiveReader
from madang.rag.retrieve import Retrieved

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
TARGET = ROOT / "src" / "madang" / "models" / "bundled" / "reader"
# How sentences are weighed: the values tried, and what is not tuned.
GRID = {"coverage": (0.5, 1.0), "heading": (0.0, 0.5, 1.0), "bm25": (0.0, 0.5, 1.0), "similarity": (0.5, 1.0, 2.0),
        "rank": (0.1, 0.3, 0.6, 1.0), "full_length": (30, 60)}
FIXED = {"sentences": 3, "keep": 0.75}


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what was retrieved for it, and the quote expected (None where there is no answer)."""

    question: str
    found: Retrieved
    quote: str | None


def asked(folder: Path) -> dict[str, list[Asked]]:
    """Questions by language family, over one collection of pydoc and one of the guide."""
    pydoc_questions = _rows("pydoc_qa.jsonl")
    # The demo's corpus and whatever is asked about: the distractors a user would have.
    modules = sorted({row["module"] for row in pydoc_questions} | set(pydoc_corpus.WELL_KNOWN))
    pydoc_corpus.write(folder / "pydoc", modules)
    with madang.open(folder / "ws") as ws:
        ws.ingest([folder / "pydoc", ROOT / "docs" / "guide"], "docs")

        def ask(rows: Sequence[dict[str, Any]]) -> list[Asked]:
            return [Asked(row["question"], ws._retrieve(row["question"], "docs", 8, "hybrid", None)[0],
                          row.get("quote")) for row in rows]

        return {"known": ask(pydoc_questions + _rows("english_qa.jsonl") + _rows("english_unanswerable.jsonl")),
                "foreign": ask(_rows("korean_qa.jsonl") + _rows("korean_unanswerable.jsonl"))}


def fit(features: NDArray[np.float64], labels: NDArray[np.float64], l2: float = 0.01,
        steps: int = 20_000) -> tuple[NDArray[np.float64], float]:
    """Logistic regression with balanced classes by gradient descent; (n, f) and (n,) to weights (f,) and bias."""
    weight = np.where(labels == 1, 0.5 / max(labels.sum(), 1), 0.5 / max((1 - labels).sum(), 1))
    parameters = np.zeros(features.shape[1] + 1)
    inputs = np.column_stack([features, np.ones(len(features))])
    penalty = np.array([l2] * features.shape[1] + [0.0])
    for _ in range(steps):
        probability = 1 / (1 + np.exp(-inputs @ parameters))
        parameters -= 2.0 * (inputs.T @ (weight * (probability - labels)) + penalty * parameters)
    return parameters[:-1], float(parameters[-1])


def best_threshold(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """The threshold with the best balanced accuracy; the middle of the best gap, for calm."""
    order = np.unique(scores)
    candidates = (order[1:] + order[:-1]) / 2 if len(order) > 1 else order
    balanced = [((scores[labels == 1] >= t).mean() + (scores[labels == 0] < t).mean()) / 2 for t in candidates]
    best = np.flatnonzero(np.isclose(balanced, max(balanced)))
    return float(candidates[best[len(best) // 2]])


def auc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the chance that an answerable question scores above an unanswerable one."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    return float((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean())


def tune(reader: ExtractiveReader, questions: Sequence[Asked]) -> dict[str, float]:
    """The weights of the grid that quote the expected sentence most often; earlier ones win ties."""
    scored = [(each, reader.score(each.question, each.found.passages)) for each in questions if each.quote is not None]
    best: tuple[int, dict[str, float]] = (-1, {})
    for values in itertools.product(*GRID.values()):
        mix = {**dict(zip(GRID, values, strict=True)), **FIXED}
        right = sum(quotes(each, reader.pick(scores, each.found.passages, mix)) for each, scores in scored)
        if right > best[0]:
            best = (right, mix)
    return best[1]


def quotes(each: Asked, evidence: Sequence[Evidence]) -> bool:
    """Whether the expected quote is among the sentences."""
    wanted = _flat(each.quote or "")
    said = [_flat(each.found.passages[e.passage].text[e.start:e.end]) for e in evidence]
    # A quote may span sentences: more than half of it must have been said in one.
    return any(wanted in text or (text in wanted and 2 * len(text) > len(wanted)) for text in said)


def measure(reader: ExtractiveReader, questions: Sequence[Asked]) -> dict[str, float]:
    """How often the reader answers what it should, refuses what it should, and quotes the expected sentence."""
    right = refused = quoted = retrieved = 0
    with_answer = [each for each in questions if each.quote is not None]
    for each in questions:
        reading = reader.read(each.question, each.found.passages)
        if each.quote is None:
            refused += not reading.answered
            continue
        right += reading.answered
        wanted = _flat(each.quote)
        retrieved += any(wanted in _flat(passage.text) for passage in each.found.passages)
        quoted += reading.answered and quotes(each, reading.evidence)
    without = len(questions) - len(with_answer)
    return {"answered": right, "with_answer": len(with_answer), "refused": refused, "without_answer": without,
            "quoted": quoted, "retrieved": retrieved}


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _features(reader: ExtractiveReader, questions: Sequence[Asked]) -> NDArray[np.float64]:
    return np.array([reader.score(each.question, each.found.passages).features for each in questions])


def calibrate(everything: dict[str, list[Asked]], reader: ExtractiveReader) -> dict[str, Any]:
    """The configuration fitted on the even questions of each family."""
    half = [each for questions in everything.values() for each in questions[::2]]
    config: dict[str, Any] = {"features": list(FEATURES), "sentence": tune(reader, half)}
    for family, questions in everything.items():
        half = questions[::2]
        labels = np.array([float(each.quote is not None) for each in half])
        features = _features(reader, half)
        weights, bias = fit(features, labels)
        scores = 1 / (1 + np.exp(-(features @ weights + bias)))
        config[family] = {"weights": [round(float(w), 4) for w in weights], "bias": round(bias, 4),
                          "threshold": round(best_threshold(scores, labels), 4)}
    return config


def report(everything: dict[str, list[Asked]], reader: ExtractiveReader, config: dict[str, Any]) -> dict[str, Any]:
    """Figures of the held-out (odd) questions."""
    result: dict[str, Any] = {}
    for family, questions in everything.items():
        held_out = questions[1::2]
        labels = np.array([float(each.quote is not None) for each in held_out])
        logits = _features(reader, held_out) @ np.array(config[family]["weights"]) + config[family]["bias"]
        result[family] = {**measure(reader, held_out), "auc": round(auc(logits, labels), 3)}
    return result


def _share(part: float, whole: float) -> str:
    interval = wilson(int(part), int(whole))
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}] ({int(part)}/{int(whole)})"


def card(result: dict[str, Any]) -> str:
    """The model card."""
    lines = []
    for family, name in (("known", "English"), ("foreign", "Korean (by words only)")):
        r = result[family]
        lines.append(f"| {name} | {_share(r['answered'], r['with_answer'])} | {_share(r['refused'], r['without_answer'])} "
                     f"| {_share(r['quoted'], r['with_answer'])} | {_share(r['retrieved'], r['with_answer'])} "
                     f"| {r['auc']:.3f} |")
    return (CARD_HEAD + "\n".join(lines) + CARD_TAIL)


CARD_HEAD = """---
license: apache-2.0
language: [en, ko]
pipeline_tag: question-answering
---

# bundled/reader

An extractive reader: it picks and orders the sentences of retrieved passages that answer a question, and says "not in
these documents" below a calibrated threshold. **It is not a language model.** It quotes; it does not write, summarise,
translate or calculate. It is deterministic and takes milliseconds.

- **How it works.** Each sentence is scored by the share of the question's words it holds, by BM25 among the candidate
  sentences, by the cosine of `bundled/static` (English only) and by the rank of its passage. Whether the passages answer
  at all is a logistic model on the best coverage and similarity of a sentence and of a passage (`config.json`).
- **Made by** `python scripts/models/reader.py` (part of `make models`) from the questions in `tests/data/`.
- **Licence** Apache-2.0. **Size** one JSON file; it uses `bundled/static`.

## Measured

On the held-out half of the questions over pydoc and this project's guide, with 95 % Wilson intervals. "Near misses"
(Kubernetes, pandas, JavaScript, ...) are half of the questions without an answer.

| questions | answered when there is an answer | refused when there is none | quoted the expected sentence | passage retrieved | ROC AUC |
|---|---|---|---|---|---|
"""
CARD_TAIL = """

## What it cannot do

- Combine facts, follow a negation, compare, count, or read a table.
- Judge a question whose words the documents use for something else: it may quote a wrong sentence with confidence. Read
  the quotation.
- Understand Korean by meaning: for Korean it counts shared words (morphemes with the `ko` extra, bigrams without).
- Documents unlike the ones it was calibrated on may need another threshold.
"""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="measure the committed configuration; write nothing")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        everything = asked(Path(name))
    with madang.open(Path(tempfile.mkdtemp())) as ws:
        embedder = ws.models.embedder("bundled/static")
    if chosen.check:
        config = json.loads((TARGET / "config.json").read_text())
    else:
        config = calibrate(everything, ExtractiveReader(embedder, config={}))
    reader = ExtractiveReader(embedder, config=config)
    result = report(everything, reader, config)
    print(json.dumps({"config": config, "held_out": result}, indent=2))
    if not chosen.check:
        TARGET.mkdir(parents=True, exist_ok=True)
        (TARGET / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (TARGET / "README.md").write_text(card(result), encoding="utf-8")
    assert not any(math.isnan(r["auc"]) for r in result.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
