"""Milvus in a file (milvus-lite, through the client that a cluster has) passes the stores' suite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pymilvus import MilvusClient

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError
from madang.store.backends import Capabilities, Unsupported, milvus
from madang.store.backends.milvus import MilvusCollection
from madang.store.backends.milvus_filters import listed, within
from madang.store.filters import parse
from madang.testing.store_suite import ONE, Make, StoreSuite, record


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("milvus") / "store.db"


@pytest.fixture(scope="module", autouse=True)
def _server(file: Path) -> Iterator[None]:
    """Its server starts once, not for each test."""
    first = MilvusCollection.create(f"milvus://{file}?collection=first", 2)
    yield
    first.close()


NUMBERS = count()


class TestInAFile(StoreSuite):
    capabilities: ClassVar[Capabilities] = MilvusCollection.capabilities

    @pytest.fixture
    def make(self, file: Path) -> Iterator[Make]:
        made = self.made = list[MilvusCollection]()

        def make(dim: int, metric: str) -> MilvusCollection:
            made.append(MilvusCollection.create(f"milvus://{file}?collection=c{next(NUMBERS)}", dim, metric))
            return made[-1]

        yield make
        for collection in made:
            collection.close()

    @pytest.fixture(autouse=True)
    def _file(self, file: Path) -> None:
        self.file = file

    def reopen(self, store: MilvusCollection) -> Any:
        self.made.append(MilvusCollection.open(f"milvus://{self.file}?collection={store.name}"))
        return self.made[-1]


def test_what_was_written_is_there_after_all_is_closed(tmp_path: Path) -> None:
    url = f"milvus://{tmp_path / 'own.db'}?collection=docs"
    collection = MilvusCollection.create(url, 3, "euclidean")
    collection.upsert([record("a", [3, 2, 1], metadata={"k": 2**53 + 1}, document="words")], namespace="ns")
    collection.close()
    again = MilvusCollection.open(url)
    assert (again.dim, again.metric) == (3, "euclidean")
    (match,) = again.query(vector=[3, 2, 0], namespace="ns", filter={"k": 2**53 + 1}, include_document=True).matches
    assert (match.id, match.score, match.document) == ("a", -1.0, "words")
    with pytest.raises(Conflict):
        MilvusCollection.create(url, 3)
    again.drop()
    with pytest.raises(NotFound):
        MilvusCollection.open(url)


def test_what_madang_did_not_make_is_refused(file: Path) -> None:
    client = MilvusClient(str(file))
    client.create_collection("foreign", dimension=4)
    with pytest.raises(InvalidInput, match="not made by Madang"):
        MilvusCollection.open(f"milvus://{file}?collection=foreign")
    client.close()


def test_no_value_reaches_an_expression() -> None:
    """Whatever the caller gives, the expression holds columns, operators and hexadecimal digits."""
    bad = '" or key != "'
    tree = parse({"$or": [{bad: bad}, {bad: {"$in": [bad, 1, True]}}, {bad: {"$gt": 1.5}}, {"x": {"$nin": [bad]}}],
                  bad: {"$exists": True}})
    for expression in (within(bad, tree), listed(bad, bad, bad)):
        words = re.sub(r"array_contains_any|tokens|numbers|space|key|and|or|not", "", expression)
        assert re.fullmatch(r'[0-9a-g"\[\](), =!<>]*', words), words


@pytest.mark.parametrize("field", ["document", "context"])
def test_text_beyond_its_field_is_refused(file: Path, field: str) -> None:
    collection = MilvusCollection.create(f"milvus://{file}?collection=c{next(NUMBERS)}", 3)
    collection.upsert([record("fits", **{field: "가" * 21_845})])
    with pytest.raises(Unsupported, match=f"{field} of more than 65,535 bytes"):
        collection.upsert([record("a"), record("b", **{field: "가" * 21_846})])
    with pytest.raises(Unsupported, match="fields and values"):
        collection.upsert([record("b", metadata={"tags": [str(n) for n in range(4_096)]})])
    collection.upsert([record("full", metadata={"tags": [str(n) for n in range(4_095)]})])
    assert [match.id for match in collection.query(vector=ONE, filter={"tags": "4094"}).matches] == ["full"]
    assert collection.stats().records == 2
    collection.close()


@pytest.mark.parametrize("url", [
    "milvus:///tmp/x?collection=docs", "milvus:///tmp/x.db", "milvus://localhost:19530/", "milvus://localhost/a-b",
    "milvus://localhost:x/docs", "milvus://root:secret@localhost/docs", "qdrant://localhost/docs", "milvus"])
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        MilvusCollection.open(url)
    assert "secret" not in str(caught.value)


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus, "_CONNECT_S", 1.0)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 ") as caught:
        MilvusCollection.open("milvus://127.0.0.1:9/docs")
    assert caught.value.remedy
