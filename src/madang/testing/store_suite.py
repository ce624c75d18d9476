"""The tests every store must pass, ours and a stranger's: inherit `StoreSuite` and say how a collection is made.

    class TestMine(StoreSuite):
        capabilities = MyCollection.capabilities

        @pytest.fixture
        def make(self, tmp_path):
            return lambda dim, metric: MyCollection.create(f"my:///{tmp_path}?collection=c", dim, metric)

The built-in vocabulary is the oracle: metrics as NumPy computes them, filters as `madang.store.filters` reads them.
What is not declared must be refused with `Unsupported`; whatever is answered must be right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput, Unsupported
from madang.store.protocol import CollectionProtocol
from madang.testing.store_cases import DIM, ONE, Make, record, scores
from madang.testing.store_searching import SearchingSuite
from madang.testing.store_writing import WritingSuite

__all__ = ["ONE", "Make", "StoreSuite", "record", "scores"]


class StoreSuite(WritingSuite, SearchingSuite):
    """What `CollectionProtocol` promises, as far as `capabilities` declares it."""

    def test_it_is_a_collection(self, store: Any) -> None:
        assert isinstance(store, CollectionProtocol)
        assert store.dim == DIM
        assert store.name

    # Bad input

    @pytest.mark.parametrize(("bad", "words"), [
        ({"id": "", "values": ONE}, ("id",)),
        ({"id": 3, "values": ONE}, ("id", "3")),
        ({"id": "x" * 513, "values": ONE}, ("id", "512")),
        ({"id": "nul\0", "values": ONE}, ("id",)),
        ({"id": "\ud800", "values": ONE}, ("id", "surrogate")),
        ({"id": "b"}, ("'b'", "values")),
        ({"id": "b", "values": [1.0]}, ("'b'", "values", "3")),
        ({"id": "b", "values": [1.0, float("nan"), 0.0]}, ("'b'", "values", "NaN")),
        ({"id": "b", "values": ["x", "y", "z"]}, ("'b'", "values")),
        ({"id": "b", "values": ONE, "metadata": {"k": None}}, ("'b'", "'k'", "null")),
        ({"id": "b", "values": ONE, "metadata": {"k": {"deep": 1}}}, ("'b'", "'k'")),
        ({"id": "b", "values": ONE, "metadata": {"k": [1, 2]}}, ("'b'", "'k'")),
        ({"id": "b", "values": ONE, "metadata": {"$k": 1}}, ("'b'", "'$k'")),
        ({"id": "b", "values": ONE, "metadata": {"k": float("inf")}}, ("'b'", "'k'")),
        ({"id": "b", "values": ONE, "metadata": {"k": 2**63}}, ("'b'", "'k'")),
        ({"id": "b", "values": ONE, "metadata": {"k": "x" * 50_000}}, ("'b'", "metadata", "bytes")),
        ({"id": "b", "values": ONE, "document": 3}, ("'b'", "document")),
        ({"id": "b", "values": ONE, "colour": "red"}, ("'colour'",)),
    ])
    def test_a_bad_record_is_refused_and_nothing_is_written(self, store: Any, bad: Any, words: tuple[str, ...]) -> None:
        store.upsert([record("kept")])
        with pytest.raises(InvalidInput) as caught:
            store.upsert([record("a"), bad])
        assert [word for word in words if word not in str(caught.value)] == []
        assert self.everything(store) == ["kept"]

    @pytest.mark.parametrize(("options", "words"), [
        ({}, ("vector",)),
        ({"vector": [1.0]}, ("vector", "3")),
        ({"vector": [float("nan"), 0, 0]}, ("vector", "NaN")),
        ({"vector": ONE, "top_k": 0}, ("top_k", "0")),
        ({"vector": ONE, "top_k": True}, ("top_k",)),
        ({"vector": ONE, "top_k": 10_001}, ("top_k", "10,000")),
        ({"vector": ONE, "namespace": 3}, ("namespace", "3")),
        ({"vector": ONE, "target_recall": 0}, ("target_recall",)),
    ])
    def test_a_bad_query_is_refused(self, store: Any, options: Any, words: tuple[str, ...]) -> None:
        with pytest.raises(InvalidInput) as caught:
            store.query(**options)
        assert [word for word in words if word not in str(caught.value)] == []

    def test_other_bad_input_changes_nothing(self, store: Any) -> None:
        store.upsert([record("a", metadata={"k": 1})])
        for name, options in (
                ("update", {"id": "a"}), ("update", {"id": "a", "values": [1.0]}),
                ("update", {"id": "a", "set_metadata": {"k": None}}), ("fetch", {"ids": "a"}), ("fetch", {"ids": [""]}),
                ("delete", {"ids": "a"}), ("delete", {"ids": [3]}), ("upsert", {"records": {"id": "b", "values": ONE}}),
                ("upsert", {"records": [record("b")], "namespace": "x" * 513}), ("list_ids", {"limit": 0})):
            with pytest.raises((InvalidInput, Unsupported)):
                getattr(store, name)(**options)
        assert self.everything(store) == ["a"]
        assert store.fetch(["a"])["a"].metadata == {"k": 1}

    # The collection itself

    def test_a_dropped_collection_is_gone(self, make: Make, store: Any) -> None:
        store.upsert([record("a")])
        self.drop(store)
        new = make(DIM, store.metric)
        assert self.everything(new) == []
        assert new.stats().records == 0

    def test_what_was_written_is_there_when_opened_again(self, store: Any) -> None:
        store.upsert([record("a", [3, 2, 1], metadata={"k": "x"})])
        again = self.reopen(store)
        if again is not None:
            assert (again.dim, again.metric, again.name) == (store.dim, store.metric, store.name)
            self.assert_values(again.fetch(["a"])["a"].values, np.array([3, 2, 1], dtype=np.float32))
            assert self.everything(again, filter={"k": "x"}) == ["a"]
