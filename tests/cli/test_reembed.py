"""`madang collection reembed|cut-over|roll-back|forget-shadow`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import madang
from madang.cli.main import entry


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    for name, text in (("vacation", "Fifteen vacation days a year."), ("travel", "Trains are reimbursed.")):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\n{text}\n", encoding="utf-8")
    with madang.open(tmp_path / "ws") as ws:
        ws.ingest([tmp_path / "vacation.md", tmp_path / "travel.md"], embedder="bundled/static")

    def call(*arguments: str, code: int = 0) -> str:
        assert entry(["collection", *arguments, "-w", str(tmp_path / "ws")]) == code
        said = capsys.readouterr()
        return said.out + said.err

    return call


def test_over_and_back(run: Any, tmp_path: Path) -> None:
    with madang.open(tmp_path / "ws") as ws:
        ids = ws.collection("docs").list_ids().ids
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps({"query": query, "relevant": ids}) + "\n" for query in ("holidays", "by rail")),
                     encoding="utf-8")
    said = run("reembed", "docs", "--embedder", "bundled/minilm", "--queries", str(asked), "--top-k", "2")
    for part in ("docs: 2 records embedded, ", "bundled/static", "bundled/minilm", "256", "384", "nDCG@2",
                 "nDCG changes by +0.000", "p = 1 (2 judged queries)", "both find 1.000 [1.000, 1.000]",
                 "2 queries are few", "next: madang collection cut-over docs",
                 "or: madang collection forget-shadow docs"):
        assert part in said
    told = json.loads(run("reembed", "docs", "--embedder", "bundled/minilm", "--json"))
    assert (told["embedded"], told["reused"], told["queries"]) == (0, 2, 0)
    asked.write_text('{"query": "holidays"}', encoding="utf-8")
    line = run("reembed", "docs", "--embedder", "bundled/minilm", "--queries", str(asked), "--json")
    assert json.loads(line, parse_constant=pytest.fail)["overlap"]["low"] is None       # one query has no interval
    said = run("cut-over", "docs")
    assert said.startswith("docs is searched with bundled/minilm@")
    assert "madang collection roll-back docs" in said
    assert "384" in run("show", "docs")
    assert "was cut over already" in run("cut-over", "docs", code=1)
    assert run("roll-back", "docs").startswith("docs is searched with bundled/static@")
    assert json.loads(run("cut-over", "docs", "--json"))["embedded"] == 0
    assert run("forget-shadow", "docs").startswith("removed bundled/static@")
    assert "has nothing to roll back to" in run("roll-back", "docs", code=1)


def test_what_is_refused(run: Any) -> None:
    assert "already" in run("reembed", "docs", "--embedder", "bundled/static", code=1)
    assert "there is no file" in run("reembed", "docs", "--embedder", "bundled/minilm", "--queries", "none", code=1)
    assert "no collection is called" in run("reembed", "other", "--embedder", "bundled/minilm", code=1)
    assert "has no shadow" in run("forget-shadow", "docs", code=1)
    assert json.loads(run("cut-over", "docs", "--json", code=1).splitlines()[0])["error"]["code"] == "not_found"
