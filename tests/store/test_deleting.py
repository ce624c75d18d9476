"""Deleting many records at once: as many as no single statement names, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from madang.base.errors import MadangError
from madang.base.records import Record, Source, SparseVector
from madang.index import HNSW
from madang.store import Collection, Database

MANY = 1300
TABLES = ("records", "vectors", "sparse", "postings")


@pytest.fixture(params=[None, HNSW(m=4, ef_construction=16)], ids=["flat", "hnsw"])
def docs(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Collection]:
    """1,300 records in one namespace and as many in another, each with a vector, words and a sparse vector."""
    database = Database(tmp_path)
    made = database.create("docs", 2, "euclidean", index=request.param)
    for space in ("", "other"):
        made.upsert([record(n) for n in range(MANY)], space)
    yield made
    database.close()


def record(n: int) -> Record:
    return Record(f"r{n}", np.array([n, 1], np.float32), SparseVector([n], [1.0]), {"n": n, "odd": n % 2 == 1},
                  document=f"word{n % 2}")


def everywhere(docs: Collection, space: str) -> set[str]:
    """The ids that each way of asking finds; they must agree."""
    asked: list[dict[str, Any]] = [{"vector": [0, 0]}, {"text": "word0 word1"},
                                   {"sparse": {"indices": list(range(MANY)), "values": [1.0] * MANY}}]
    found = [{match.id for match in docs.query(**how, top_k=5000, namespace=space).matches} for how in asked]
    found.append(set(docs.list_ids(limit=5000, namespace=space).ids))
    assert found == [found[0]] * 4
    return found[0]


def counts(docs: Collection) -> list[int]:
    return [docs._db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in TABLES]


def ids(numbers: range) -> set[str]:
    return {f"r{n}" for n in numbers}


def test_half_of_a_namespace_by_filter(docs: Collection, tmp_path: Path) -> None:
    assert everywhere(docs, "") == ids(range(MANY))
    assert docs.delete(filter={"odd": True}) == MANY // 2
    assert everywhere(docs, "") == ids(range(0, MANY, 2))
    assert everywhere(docs, "other") == ids(range(MANY))
    assert counts(docs) == [MANY + MANY // 2] * 4
    assert docs.delete(filter={"odd": True}) == 0
    reader = Database(tmp_path)         # reads the tables alone
    assert everywhere(reader.open("docs"), "") == ids(range(0, MANY, 2))
    reader.close()


def test_another_reader_learns_of_it_by_tombstones(docs: Collection, tmp_path: Path) -> None:
    reader = Database(tmp_path)
    other = reader.open("docs")
    assert everywhere(other, "") == ids(range(MANY))
    docs.delete(filter={"n": {"$lt": 700}})
    assert everywhere(other, "") == ids(range(700, MANY))
    docs.delete(delete_all=True)
    assert everywhere(other, "") == set()
    assert everywhere(other, "other") == ids(range(MANY))
    docs.delete(delete_all=True, namespace="other")     # the last one: whole tables
    assert everywhere(other, "other") == set()
    assert counts(docs) == [0] * 4
    docs.upsert([record(3)])
    assert everywhere(other, "") == {"r3"}
    reader.close()


def test_ids_named_twice_count_once(docs: Collection) -> None:
    named = [f"r{n}" for n in range(600)]
    assert docs.delete(ids=named + named) == 600
    assert everywhere(docs, "") == ids(range(600, MANY))


@pytest.mark.parametrize("how", [{"filter": {"odd": True}}, {"delete_all": True}, {"ids": sorted(ids(range(MANY)))}],
                         ids=["filter", "all", "ids"])
def test_all_of_it_or_nothing(docs: Collection, how: dict[str, Any]) -> None:
    before = replace(docs.stats(), size_bytes=0)       # the index may be saved meanwhile
    docs._db.execute("CREATE TEMP TRIGGER fails BEFORE DELETE ON postings WHEN old.row = 1200 "
                     "BEGIN SELECT RAISE(ABORT, 'on purpose'); END")
    with pytest.raises(MadangError, match="on purpose"):
        docs.delete(**how)
    assert replace(docs.stats(), size_bytes=0) == before
    assert everywhere(docs, "") == ids(range(MANY))
    docs._db.execute("DROP TRIGGER fails")
    assert docs.delete(**how) in (MANY, MANY // 2)


def test_what_is_deleted_by_hand_is_ingested_again(docs: Collection) -> None:
    for uri in ("a", "b"):
        docs.replace_sources([(Source(uri, "hash", "text"), [
            Record(f"{uri}{n}", np.ones(2, np.float32), metadata={"n": -n, "of": uri}) for n in range(600)])])
    assert docs.delete(filter={"of": "a", "n": {"$lt": -1}}) == 598
    assert {uri: info.content_hash for uri, info in docs.sources().items()} == {"a": "", "b": "hash"}
    docs.delete(delete_all=True)
    assert docs.sources() == {}
