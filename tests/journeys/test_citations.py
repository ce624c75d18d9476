"""200 answers: every citation resolves to text equal to its quote, in the store and in the file itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import madang
from examples import pydoc_corpus

DATA = Path(__file__).resolve().parents[1] / "data"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def courtyard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[madang.Workspace]:
    folder = tmp_path_factory.mktemp("citations")
    questions = rows("pydoc_qa.jsonl")
    pydoc_corpus.write(folder / "pydoc", sorted({row["module"] for row in questions}))
    with madang.open(folder / "ws") as ws:
        guide = Path(__file__).resolve().parents[2] / "docs" / "guide"
        assert ws.ingest([folder / "pydoc", guide], embedder="bundled/static").failed == 0
        yield ws


def test_every_citation_of_200_answers_reproduces_its_quote(courtyard: madang.Workspace) -> None:
    questions = [row["question"] for name in ("pydoc_qa.jsonl", "korean_qa.jsonl", "english_qa.jsonl")
                 for row in rows(name)]
    assert len(questions) >= 200
    answered = citations = 0
    for question in questions:
        answer = courtyard.ask(question)
        answered += answer.status == "answered"
        for citation in answer.citations:
            citations += 1
            text = Path(citation.source).read_text(encoding="utf-8")
            assert citation.verified
            assert text[citation.start:citation.end] == citation.quote
            assert f"[{citation.number}]" in answer.text
            assert text.count("\n", 0, citation.start) + 1 == citation.location.line
    assert answered >= len(questions) // 2  # the check means something
    assert citations >= answered
