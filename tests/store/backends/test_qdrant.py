"""Qdrant in its client's local mode passes the stores' suite: in memory, and in a directory."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from qdrant_client import QdrantClient, models

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError
from madang.store.backends import Capabilities
from madang.store.backends.qdrant import QdrantCollection
from madang.testing.store_suite import Make, StoreSuite, record


@pytest.fixture
def made() -> Iterator[list[QdrantCollection]]:
    collections: list[QdrantCollection] = []
    yield collections
    for collection in collections:
        collection.close()


def maker(made: list[QdrantCollection], url: Callable[[int], str]) -> Make:
    numbers = count()

    def make(dim: int, metric: str) -> QdrantCollection:
        made.append(QdrantCollection.create(url(next(numbers)), dim, metric))
        return made[-1]

    return make


class TestInMemory(StoreSuite):
    capabilities: ClassVar[Capabilities] = QdrantCollection.capabilities

    @pytest.fixture
    def make(self, made: list[QdrantCollection]) -> Make:
        name = uuid.uuid4().hex
        return maker(made, lambda number: f"qdrant://:memory:/{name}-{number}")


class TestInADirectory(StoreSuite):
    capabilities: ClassVar[Capabilities] = QdrantCollection.capabilities
    large: ClassVar[int] = 210         # it syncs each record

    @pytest.fixture
    def make(self, made: list[QdrantCollection], tmp_path: Path) -> Make:
        self.directory, self.made = tmp_path / "q", made
        return maker(made, lambda number: f"qdrant://{self.directory}?collection=c{number}")

    def reopen(self, store: QdrantCollection) -> Any:
        store.close()
        self.made.clear()
        self.made.append(QdrantCollection.open(f"qdrant://{self.directory}?collection={store.name}"))
        return self.made[-1]


def test_what_was_written_is_there_after_all_is_closed(tmp_path: Path) -> None:
    url = f"qdrant://{tmp_path}?collection=docs"
    collection = QdrantCollection.create(url, 3, "euclidean")
    other = QdrantCollection.create(f"qdrant://{tmp_path}?collection=other", 2)
    collection.upsert([record("a", [3, 2, 1], metadata={"k": 2**53 + 1}, document="words")], namespace="ns")
    collection.close()
    collection.close()
    assert other.upsert([record("x", [1, 0])]) == 1          # the directory is shared, and still open
    other.close()
    again = QdrantCollection.open(url)
    assert (again.dim, again.metric) == (3, "euclidean")
    (match,) = again.query(vector=[3, 2, 0], namespace="ns", filter={"k": 2**53 + 1}, include_document=True).matches
    assert (match.id, match.score, match.document) == ("a", -1.0, "words")
    with pytest.raises(Conflict):
        QdrantCollection.create(url, 3)
    again.drop()
    with pytest.raises(NotFound):
        QdrantCollection.open(url)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves its lock file open
def test_what_madang_did_not_make_is_refused(tmp_path: Path) -> None:
    client = QdrantClient(path=str(tmp_path))
    client.create_collection("foreign", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    with pytest.raises(Conflict, match="cannot be opened"):  # local mode is one process's, and one client's in it
        QdrantCollection.open(f"qdrant://{tmp_path}?collection=foreign")
    client.close()
    with pytest.raises(InvalidInput, match="not made by Madang"):
        QdrantCollection.open(f"qdrant://{tmp_path}?collection=foreign")


@pytest.mark.parametrize("length", [1e-30, 1e-8, 1.0, 1e30])
def test_a_direction_of_any_length(made: list[QdrantCollection], length: float) -> None:
    """Qdrant leaves short vectors as they are; they are normalised before it sees them."""
    collection = QdrantCollection.create(f"qdrant://:memory:/{uuid.uuid4().hex}", 3)
    collection.upsert([record("a", [3 * length, 4 * length, 0])])
    (match,) = collection.query(vector=[length, 0, 0], include_values=True).matches
    assert match.score == pytest.approx(0.6)
    assert match.values == pytest.approx([3 * length, 4 * length, 0], rel=1e-6)


def test_a_foreign_cursor_is_refused(made: list[QdrantCollection]) -> None:
    collection = QdrantCollection.create(f"qdrant://:memory:/{uuid.uuid4().hex}", 3)
    with pytest.raises(InvalidInput, match="cursor"):
        collection.list_ids(cursor="a")


@pytest.mark.parametrize("url", [
    "qdrant:///tmp/x", "qdrant:///?collection=docs", "qdrant://localhost:6333/", "qdrant://localhost:x/docs",
    "qdrant://key:secret@localhost/docs", "milvus://localhost/docs", "qdrant", "qdrant://:memory:/"])
def test_a_bad_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        QdrantCollection.open(url)
    assert "secret" not in str(caught.value)


def test_no_server() -> None:
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 ") as caught:
        QdrantCollection.open("qdrant://127.0.0.1:9/docs")
    assert (caught.value.kind, caught.value.retryable) == ("unreachable", True)
