"""The part of the stores' suite about writing, updating, deleting, namespaces, listing and counting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput, NotFound, Unsupported
from madang.base.records import SparseVector
from madang.testing.store_cases import DIM, IDS, ONE, SPACES, StoreCases, record, same


class WritingSuite(StoreCases):
    """Records come back as they were written, and nothing else changes."""

    # Writing and reading back

    def test_an_empty_collection(self, store: Any) -> None:
        assert store.query(vector=ONE).matches == []
        assert store.query(vector=ONE, filter={"a": 1}).matches == []
        assert store.fetch(["a"]) == {}
        assert store.fetch([]) == {}
        gone = store.delete(ids=["a"])
        assert gone == 0 or not self.capabilities.delete_counts
        assert store.delete(ids=[]) == 0
        gone = store.delete(delete_all=True)
        assert gone == 0 or not self.capabilities.delete_counts
        assert store.upsert([]) == 0
        assert store.stats().records == 0
        if self.capabilities.list_ids:
            assert store.list_ids().ids == []

    def test_records_come_back_as_they_were_written(self, store: Any) -> None:
        whole = record("whole", [1.5, -2.25, 0.1], metadata={"s": "x", "i": 2, "f": 2.0, "b": True})
        bare = record("bare")
        if "list" not in self.capabilities.filters_refused:
            whole.metadata["l"] = ["a", "b"]
        if self.capabilities.documents:
            whole.document, whole.context = "연차는 15일입니다.\n둘째 줄", "휴가"
        if self.capabilities.sparse:
            whole.sparse = SparseVector([1, 7, 2**32 - 1], [0.5, -1.0, 2.0])
        assert store.upsert([whole, bare]) == 2
        found = store.fetch(["whole", "missing", "bare"])
        assert list(found) == ["whole", "bare"]
        for written in (whole, bare):
            read = found[written.id]
            assert same(read.metadata, written.metadata)
            assert (read.id, read.document, read.context) == (written.id, written.document, written.context)
            assert read.sparse == written.sparse
            self.assert_values(read.values, written.values)

    def test_dicts_are_records_too(self, store: Any) -> None:
        assert store.upsert([{"id": "a", "values": ONE, "metadata": {"n": np.int64(3).item()}}]) == 1
        assert store.fetch(["a"])["a"].metadata == {"n": 3}

    def test_an_upsert_replaces_the_whole_record(self, store: Any) -> None:
        store.upsert([record("a", metadata={"old": 1, "k": 1}), record("b")])
        store.upsert([record("a", ONE, metadata={"k": 2})])
        assert store.fetch(["a"])["a"].metadata == {"k": 2}
        assert self.everything(store) == ["a", "b"]
        assert self.everything(store, filter={"old": {"$exists": True}}) == []
        assert self.everything(store, filter={"k": 1}) == []
        assert store.stats().records == 2

    def test_of_one_id_twice_the_last_wins(self, store: Any) -> None:
        assert store.upsert([record("a", metadata={"n": 1}), record("b"), record("a", metadata={"n": 2})]) == 2
        assert store.fetch(["a"])["a"].metadata == {"n": 2}

    def test_a_large_batch(self, store: Any) -> None:
        ids = [f"r{n}" for n in range(self.large)]
        assert store.upsert([record(identity, metadata={"n": n}) for n, identity in enumerate(ids)]) == len(ids)
        assert store.stats().records == len(ids)
        assert self.everything(store, filter={"n": {"$gte": len(ids) - 10}}) == sorted(ids[-10:])
        assert list(store.fetch(ids)) == ids
        if self.capabilities.by_filter:
            assert store.update(filter={"n": {"$gte": 1}}, set_metadata={"all": True}) == len(ids) - 1
            assert store.count({"all": True}) == len(ids) - 1
            assert store.stats().records == len(ids)
        gone = store.delete(ids=ids[:-1])
        assert gone == len(ids) - 1 or not self.capabilities.delete_counts
        assert self.everything(store) == ids[-1:]

    def test_ids_of_all_kinds(self, store: Any) -> None:
        ids = [identity for identity in IDS if self.capabilities.unicode_ids or identity.isascii()]
        store.upsert([record(identity, metadata={"n": n}) for n, identity in enumerate(ids)])
        assert list(store.fetch(ids)) == ids
        assert self.everything(store) == sorted(ids)
        for n, identity in enumerate(ids):
            assert self.everything(store, filter={"n": n}) == [identity]
        for identity in ids[::2]:
            gone = store.delete(ids=[identity])
            assert gone == 1 or not self.capabilities.delete_counts
        assert self.everything(store) == sorted(ids[1::2])

    def test_an_id_beyond_ascii_is_kept_or_refused(self, store: Any) -> None:
        if self.capabilities.unicode_ids:
            store.upsert([record("마당")])
            assert self.everything(store) == ["마당"]
        else:
            with pytest.raises(Unsupported):
                store.upsert([record("a"), record("마당")])
            assert self.everything(store) == []

    def test_every_write_is_read(self, store: Any) -> None:
        if self.capabilities.read_your_writes:
            for n in range(20):
                store.upsert([record(f"r{n}", metadata={"n": n})])
                assert len(self.everything(store)) == n + 1
                assert store.stats().records == n + 1
            for n in range(20):
                store.delete(ids=[f"r{n}"])
                assert len(self.everything(store)) == 19 - n

    def test_several_threads(self, store: Any) -> None:
        def work(number: int) -> list[int]:
            seen = []
            for n in range(10):
                store.upsert([record(f"t{number}-{n}", metadata={"t": number})])
                seen.append(len(self.everything(store, filter={"t": number})))
            store.delete(ids=[f"t{number}-0"])
            return seen

        with ThreadPoolExecutor(4) as pool:
            for seen in pool.map(work, range(4)):
                assert seen == list(range(1, 11)) or not self.capabilities.read_your_writes
        assert self.everything(store) == sorted(f"t{number}-{n}" for number in range(4) for n in range(1, 10))

    # Updates

    def test_update_of_values(self, store: Any) -> None:
        store.upsert([record("a", [0, 1, 0], metadata={"k": 1}), record("b", [0, 0, 1])])
        if self.capabilities.documents:
            store.upsert([record("a", [0, 1, 0], metadata={"k": 1}, document="words", context="title")])
        store.update("a", values=[2.0, 0.0, 0.0])
        read = store.fetch(["a"])["a"]
        self.assert_values(read.values, np.array([2, 0, 0], dtype=np.float32))
        assert read.metadata == {"k": 1}
        if self.capabilities.documents:
            assert (read.document, read.context) == ("words", "title")
        assert store.query(vector=ONE, top_k=1).matches[0].id == "a"

    def test_update_merges_metadata(self, store: Any) -> None:
        store.upsert([record("a", [3, 1, 2], metadata={"k": 1, "kept": "x"}), record("b", metadata={"k": 1})])
        if not self.capabilities.update_metadata:
            with pytest.raises(Unsupported):
                store.update("a", set_metadata={"k": "two"})
            return
        store.update("a", set_metadata={"k": "two", "new": True})
        read = store.fetch(["a"])["a"]
        assert same(read.metadata, {"k": "two", "kept": "x", "new": True})
        self.assert_values(read.values, np.array([3, 1, 2], dtype=np.float32))
        assert self.everything(store, filter={"k": 1}) == ["b"]
        assert self.everything(store, filter={"k": "two", "new": True, "kept": "x"}) == ["a"]

    def test_update_of_a_sparse_vector(self, store: Any) -> None:
        new = SparseVector([2, 9], [0.5, -1.0])
        if not self.capabilities.sparse:
            store.upsert([record("a")])
            with pytest.raises(Unsupported):
                store.update("a", sparse=new)
            return
        store.upsert([record("a", sparse=SparseVector([1], [1.0]), metadata={"k": 1}), record("b")])
        assert store.update("a", sparse=new) == 1
        read = store.fetch(["a"])["a"]
        assert (read.sparse, read.metadata) == (new, {"k": 1})
        self.assert_values(read.values, record("a").values)
        if self.capabilities.sparse_query:
            assert [match.id for match in store.query(sparse=SparseVector([9], [1.0])).matches] == ["a"]
            assert store.query(sparse=SparseVector([1], [1.0])).matches == []

    # By filter: updates, ids, counts

    def test_what_is_done_by_filter(self, store: Any) -> None:
        if not self.capabilities.by_filter:
            store.upsert([record("a", metadata={"n": 1})])
            for name, options in (("update", {"set_metadata": {"k": 1}}), ("list_ids", {}), ("count", {})):
                with pytest.raises(Unsupported):
                    getattr(store, name)(filter={"n": 1}, **options)
            assert store.count() == 1
            return
        for space in self.spaces()[:2]:
            store.upsert([record(f"r{n:02}", metadata={"n": n % 3, "kept": "x"}) for n in range(30)], namespace=space)
        assert store.update(filter={"n": {"$gte": 1}}, set_metadata={"n": 7, "new": True}) == 20
        wanted = [f"r{n:02}" for n in range(30) if n % 3]
        assert self.everything(store, filter={"n": 7, "new": True, "kept": "x"}) == wanted
        assert (store.count(), store.count({"n": 7}), store.count({"n": 1})) == (30, 20, 0)
        assert self.pages(store, 7, filter={"n": 7}) == wanted
        assert self.pages(store, 100, filter={"n": 7}, prefix="r1") == [name for name in wanted if name[1] == "1"]
        self.assert_values(store.fetch(["r01"])["r01"].values, record("r01").values)
        for space in self.spaces()[1:2]:                 # the other namespace is as it was
            assert (store.count(namespace=space), store.count({"n": 7}, space)) == (30, 0)
        assert store.update(filter={"n": "nothing"}, set_metadata={"n": 1}) == 0
        assert store.count(namespace="nowhere") == 0 or not self.capabilities.namespaces

    def test_an_update_by_filter_is_all_or_nothing(self, store: Any) -> None:
        if not self.capabilities.by_filter:     # refused: see above
            return
        store.upsert([record("a", metadata={"k": 1}), record("b", metadata={"k": 1, "big": "x" * 40_000})])
        with pytest.raises(InvalidInput, match="'b'"):
            store.update(filter={"k": 1}, set_metadata={"k": 2, "more": "y" * 5_000})
        assert store.count({"k": 1}) == 2
        for wrong in ({"set_metadata": {"k": 2}}, {"id": "a", "filter": {"k": 1}, "set_metadata": {"k": 2}},
                      {"filter": {"k": 1}, "values": ONE}, {"filter": {"k": 1}, "sparse": SparseVector([1], [1.0])},
                      {"filter": {"k": 1}}, {"filter": {"$k": 1}, "set_metadata": {"k": 2}}):
            with pytest.raises(InvalidInput):
                store.update(**wrong)
        assert store.count({"k": 1}) == 2

    def test_update_of_what_is_not_there(self, store: Any) -> None:
        store.upsert([record("a")])
        with pytest.raises(NotFound) as caught:
            store.update("b", values=ONE)
        assert "'b'" in str(caught.value)
        assert self.everything(store) == ["a"]

    # Deleting

    def test_delete_by_ids(self, store: Any) -> None:
        store.upsert([record("a"), record("b"), record("c")])
        gone = store.delete(ids=["a", "c", "a"])
        assert gone == 2 or not self.capabilities.delete_counts
        gone = store.delete(ids=["a", "missing"])
        assert gone == 0 or not self.capabilities.delete_counts
        assert self.everything(store) == ["b"]

    def test_delete_by_filter(self, store: Any) -> None:
        store.upsert([record("a", metadata={"n": 1}), record("b", metadata={"n": 2}), record("c")])
        if not self.capabilities.delete_by_filter:
            with pytest.raises(Unsupported):
                store.delete(filter={"n": {"$gte": 2}})
            assert self.everything(store) == ["a", "b", "c"]
            return
        gone = store.delete(filter={"n": {"$gte": 2}})
        assert gone == 1 or not self.capabilities.delete_counts
        assert self.everything(store) == ["a", "c"]
        store.delete(filter={"n": {"$ne": 1}})
        assert self.everything(store) == ["a"]

    def test_delete_all_of_a_namespace(self, store: Any) -> None:
        for space in self.spaces():
            store.upsert([record("a"), record("b")], namespace=space)
        for space in self.spaces():
            gone = store.delete(delete_all=True, namespace=space)
            assert gone == 2 or not self.capabilities.delete_counts
            assert self.everything(store, space) == []
            assert space not in store.stats().namespaces
        assert store.stats().records == 0

    def test_delete_needs_exactly_one_way(self, store: Any) -> None:
        store.upsert([record("a", metadata={"n": 1})])
        for wrong in ({}, {"ids": ["a"], "filter": {"n": 1}}, {"ids": ["a"], "delete_all": True}):
            with pytest.raises(InvalidInput):
                store.delete(**wrong)
        assert self.everything(store) == ["a"]

    # Namespaces, listing, counting

    def test_namespaces_are_apart(self, store: Any) -> None:
        if not self.capabilities.namespaces:
            with pytest.raises(Unsupported):
                store.upsert([record("a")], namespace="ns")
            with pytest.raises(Unsupported):
                store.fetch(["a"], namespace="ns")
            with pytest.raises(Unsupported):
                store.query(vector=ONE, namespace="ns")
            return
        for n, space in enumerate(SPACES):
            store.upsert([record("same", [n + 1, 0, 0], metadata={"n": n}), record(f"own{n}")], namespace=space)
        for n, space in enumerate(SPACES):
            assert self.everything(store, space) == sorted(["same", f"own{n}"])
            assert store.fetch(["same"], namespace=space)["same"].metadata == {"n": n}
            assert store.query(vector=ONE, namespace=space).namespace == space
            assert self.everything(store, space, filter={"n": (n + 1) % 5}) == []
        store.delete(ids=["same"], namespace="ns")
        if self.capabilities.delete_by_filter:
            store.delete(filter={"n": {"$exists": True}}, namespace="마당")
        assert self.everything(store, "ns") == ["own1"]
        assert self.everything(store, "") == ["own0", "same"]
        assert store.fetch(["same"], namespace="nowhere") == {}
        assert self.everything(store, "nowhere") == []

    def test_stats_count_by_namespace(self, store: Any) -> None:
        expected = {}
        for n, space in enumerate(self.spaces()):
            store.upsert([record(f"r{m}") for m in range(n + 1)], namespace=space)
            expected[space] = n + 1
        stats = store.stats()
        assert stats.namespaces == expected
        assert stats.records == sum(expected.values())
        assert stats.dim == DIM
        assert stats.metric == store.metric
        assert stats.name == store.name

    def pages(self, store: Any, limit: int, **options: Any) -> list[str]:
        """All ids of a listing, page by page; no page is larger than asked."""
        found: list[str] = []
        cursor = None
        for _ in range(1000):
            page = store.list_ids(limit=limit, cursor=cursor, **options)
            assert len(page.ids) <= limit
            found += page.ids
            cursor = page.cursor
            if cursor is None:
                return found
        raise AssertionError("the listing does not end")

    def test_list_ids(self, store: Any) -> None:
        ids = [identity for identity in IDS if self.capabilities.unicode_ids or identity.isascii()]
        ids += [f"doc-{n:02}" for n in range(30)]
        store.upsert([record(identity) for identity in ids])
        if self.capabilities.namespaces:
            store.upsert([record("elsewhere"), record("doc-99")], namespace="ns")
        if not self.capabilities.list_ids:
            with pytest.raises(Unsupported):
                store.list_ids()
            return
        for limit in (1, 7, 1000):
            found = self.pages(store, limit)
            assert sorted(found) == sorted(ids)
            assert not self.capabilities.ordered_ids or found == sorted(ids)

    def test_list_ids_with_a_prefix(self, store: Any) -> None:
        ids = ["doc", "doc-1", "doc-2", "doc_1", "doc%1", "Doc-1", "do", "dod", "x-doc-1", "doc-" + "z" * 500]
        ids += ["doc-마당", "마당", "마당-1", "마담", "doc\U0010ffff"] if self.capabilities.unicode_ids else []
        store.upsert([record(identity) for identity in ids])
        for prefix in ("doc-", "doc", "doc_", "doc%", "d", "마당", "doc\U0010ffff", "nothing", "x" * 512):
            if not self.capabilities.list_prefix:
                with pytest.raises(Unsupported):
                    store.list_ids(prefix=prefix)
                continue
            for limit in (2, 100):
                found = self.pages(store, limit, prefix=prefix)
                assert sorted(found) == sorted(identity for identity in ids if identity.startswith(prefix))
