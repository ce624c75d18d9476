"""`madang collection ...`: looking after collections, keeping and moving them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import madang
from madang.base.errors import InvalidInput
from madang.cli.main import entry

VECTORS = np.random.default_rng(0).standard_normal((1200, 8)).astype(np.float32)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    with madang.open(tmp_path / "ws") as ws:
        ws.create_collection("v", dim=8).upsert(
            [{"id": str(i), "values": VECTORS[i], "metadata": {"n": i}, "document": f"문서 {i}"} for i in range(1200)])

    def call(*arguments: str, code: int = 0) -> str:
        assert entry(["collection", *arguments, "-w", str(tmp_path / "ws")]) == code
        said = capsys.readouterr()
        return said.out + said.err

    return call


def test_audit_repair_and_another_index(run: Any) -> None:
    assert "all search is exact" in run("audit", "v")
    assert "is searched with hnsw now (1,200 records)" in run("reindex", "v", "--kind", "hnsw", "--m", "8")
    said = run("audit", "v", "--samples", "20")
    assert "48 of them compared exactly, 0 missing" in said
    assert "recall@10" in said
    assert json.loads(run("audit", "v", "--json"))["index"]["unreachable"] == 0
    assert run("repair", "v") == "nothing to repair\n"
    assert "does not take all of m" in run("reindex", "v", "--kind", "flat", "--m", "8", code=1)


def test_snapshots(run: Any) -> None:
    assert "no snapshots yet" in run("snapshot", "list", "v")
    assert "kept 1,200 records of v as one" in run("snapshot", "create", "v", "one")
    assert "already" in run("snapshot", "create", "v", "one", code=1)
    run("delete", "v", "1", "2")
    assert json.loads(run("snapshot", "list", "v", "--json"))[0]["records"] == 1200
    assert run("snapshot", "restore", "v", "one") == "v has 1,200 records now\n"
    assert "error" in run("snapshot", "restore", "v", "two", code=1)
    assert "deleted snapshot one" in run("snapshot", "delete", "v", "one")


def test_an_older_state_can_be_read(tmp_path: Path) -> None:
    with madang.open(tmp_path / "ws") as ws:
        now = ws.create_collection("v", dim=8, index=madang.HNSW())
        now.upsert([{"id": str(i), "values": VECTORS[i]} for i in range(1200)])
        now.wait_until_indexed()
        made = now.snapshot("before")
        now.delete([str(i) for i in range(100)])
        now.upsert([{"id": "5", "values": VECTORS[900], "metadata": {"new": True}}])
        for when in ("before", made.sequence, made.created_at):
            before = now.as_of(when)
            assert before.stats().records == 1200
            assert before.query(vector=VECTORS[5]).matches[0].id == "5"
            with pytest.raises(InvalidInput, match="is a snapshot"):
                before.delete(["7"])
            before.close()
        assert now.query(vector=VECTORS[5]).matches[0].id != "5"
        restored = ws.restore_snapshot("v", "before")
        assert restored.stats().records == 1200
        assert restored.query(vector=VECTORS[7]).matches[0].id == "7"


def test_backups_and_files(run: Any, tmp_path: Path) -> None:
    backup, parquet = str(tmp_path / "v.backup"), str(tmp_path / "v.parquet")
    assert "wrote 1,200 records" in run("backup", "v", backup)
    assert "exists already" in run("backup", "v", backup, code=1)
    assert run("restore", backup, "w") == "w has 1,200 records now\n"
    assert "exists already" in run("restore", backup, "w", code=1)
    run("restore", backup, "w", "--replace")
    content = bytearray(Path(backup).read_bytes())
    content[len(content) // 2] ^= 1
    Path(backup).write_bytes(bytes(content))
    assert "damaged" in run("restore", backup, "x", code=1)
    run("export", "v", parquet)
    assert run("import", parquet, "y") == "1,200 records written, 0 were there already, 0 documents\n"
    assert run("import", parquet, "y") == "0 records written, 1,200 were there already, 0 documents\n"
    assert "leave them out" in run("import", parquet, "y", "--metric", "dot", code=1).lower()


def test_copies(run: Any, tmp_path: Path) -> None:
    assert "1,200 written, 0 already there; 1,200 read back" in run("copy", "v", "w")
    assert "0 written, 1,200 already there" in run("copy", "v", "w")
    madang.open(tmp_path / "other").close()
    assert "1,200 written" in run("copy", "v", f"madang://{tmp_path}/other?collection=far")
    assert "no store is called 'nope'. Known: milvus, pinecone, postgresql, qdrant" in run("copy", "v", "nope://x", code=1)
    assert "cannot be copied to itself" in run("copy", "v", "v", code=1)


def test_what_survives_is_rescued(run: Any) -> None:
    assert "v-salvaged: 1,200 records and 0 sources copied; 0 damaged" in run("salvage", "v")
    assert json.loads(run("salvage", "v", "--into", "w", "--json"))["records"] == 1200
