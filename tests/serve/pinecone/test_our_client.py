"""Our own client of the protocol against our own server: the suite that every store must pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from madang.base.errors import Conflict, NotFound
from madang.store.backends import Capabilities
from madang.store.backends.pinecone import Pinecone
from madang.testing.store_suite import Make, StoreSuite, record
from madang.workspace import Workspace

_numbers = itertools.count()


class TestPineconeThroughOurServer(StoreSuite):
    # What this server promises beyond what the service does.
    capabilities: ClassVar[Capabilities] = replace(Pinecone.capabilities, read_your_writes=True)

    @pytest.fixture(autouse=True)
    def _address(self, served: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", served[1])
        monkeypatch.setenv("PINECONE_API_KEY", "any")

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        self.opened: list[Pinecone] = []

        def new(dim: int, metric: str = "cosine") -> Pinecone:
            self.opened.append(Pinecone.create(f"pinecone://own{next(_numbers)}", dim, metric))
            return self.opened[-1]

        yield new
        for collection in self.opened:
            collection.close()

    def reopen(self, store: Any) -> Any:
        self.opened.append(Pinecone.open(f"pinecone://{store.name}"))
        return self.opened[-1]


def test_copying_into_the_server_and_back(served: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection goes out over the protocol and comes home with the same records."""
    workspace, address = served
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", address)
    monkeypatch.setenv("PINECONE_API_KEY", "any")
    workspace.create_collection("leaving", dim=3, metric="dot").upsert(
        [record(f"r{n}", metadata={"n": n, "half": n / 2, "s": "마당"}, document=f"글 {n}") for n in range(300)])
    workspace.copy_collection("leaving", "pinecone://abroad")
    workspace.copy_collection("pinecone://abroad", "home")
    ids = [f"r{n}" for n in range(300)]
    left, back = workspace.collection("leaving").fetch(ids), workspace.collection("home").fetch(ids)
    assert list(left) == list(back) == ids
    for identity in ids:
        one, other = left[identity], back[identity]
        assert np.array_equal(one.values, other.values)  # type: ignore[arg-type]
        assert repr((one.metadata, one.document)) == repr((other.metadata, other.document))


def test_errors_arrive_as_ours(served: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", served[1])
    monkeypatch.setenv("PINECONE_API_KEY", "any")
    with pytest.raises(NotFound):
        Pinecone.open("pinecone://nowhere")
    Pinecone.create("pinecone://twice", 3).close()
    with pytest.raises(Conflict):
        Pinecone.create("pinecone://twice", 3)
