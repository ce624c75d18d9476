"""The part of the stores' suite about queries and filters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from madang.base.errors import InvalidInput, Unsupported
from madang.base.records import Metadata, Record, Source, SparseVector
from madang.store import filters
from madang.store.fusion import Fusion
from madang.testing.filter_table import REFUSED, ROWS
from madang.testing.store_cases import DIM, ONE, Make, StoreCases, record, same, scores, table


class SearchingSuite(StoreCases):
    """The nearest that match, with the scores of the metric; what is not declared is refused."""

    # Queries

    @pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
    def test_scores(self, make: Make, metric: str) -> None:
        if metric not in self.capabilities.metrics:
            with pytest.raises(Unsupported) as caught:
                make(DIM, metric)
            assert metric in str(caught.value)
            return
        dim, rng = 24, np.random.default_rng(7)
        store, vectors = make(dim, metric), rng.normal(size=(120, dim)).astype(np.float32)
        vectors *= rng.uniform(0.2, 4.0, size=(120, 1)).astype(np.float32)
        store.upsert([Record(f"r{n}", values) for n, values in enumerate(vectors)])
        for _ in range(5):
            asked = rng.normal(size=dim).astype(np.float32)
            expected = scores(metric, asked, vectors)
            matches = store.query(vector=asked, top_k=12).matches
            assert [match.id for match in matches] == [f"r{n}" for n in np.argsort(-expected, kind="stable")[:12]]
            found = [match.score for match in matches]
            assert found == sorted(found, reverse=True)
            if self.capabilities.exact_scores:
                wanted = np.sort(expected)[::-1][:12]
                assert found == pytest.approx(wanted, rel=1e-4, abs=1e-4 if metric == "cosine" else 1e-3)

    def test_a_vector_without_a_direction(self, make: Make) -> None:
        if "cosine" not in self.capabilities.metrics:
            return
        store = make(DIM, "cosine")
        store.upsert([record("a", [2, 0, 0]), record("b", [-1, 0, 0])])
        if not self.capabilities.zero_vectors:
            with pytest.raises(Unsupported):
                store.upsert([record("zero", [0, 0, 0])])
            with pytest.raises(Unsupported):
                store.query(vector=[0, 0, 0])
            return
        store.upsert([record("zero", [0, 0, 0])])
        assert [match.id for match in store.query(vector=ONE).matches] == ["a", "zero", "b"]
        assert store.fetch(["zero"])["zero"].values.tolist() == [0, 0, 0]
        assert {match.score for match in store.query(vector=[0, 0, 0]).matches} == {0.0}

    def test_top_k(self, store: Any) -> None:
        store.upsert([record(f"r{n:02}", [n, 0, 0]) for n in range(40)])
        for k in (1, 10, 40, 41, self.capabilities.max_top_k):
            assert len(store.query(vector=ONE, top_k=k).matches) == min(k, 40)
        assert len(store.query(vector=ONE).matches) == 10
        assert len(store.query(vector=ONE, top_k=np.int64(3)).matches) == 3
        if self.capabilities.max_top_k < 10_000:
            with pytest.raises(Unsupported):
                store.query(vector=ONE, top_k=self.capabilities.max_top_k + 1)

    def test_include_flags(self, store: Any) -> None:
        text = {"document": "words"} if self.capabilities.documents else {}
        store.upsert([record("a", ONE, metadata={"k": 1}, **text)])
        (plain,) = store.query(vector=ONE).matches
        assert (plain.metadata, plain.values, plain.document) == ({"k": 1}, None, None)
        (bare,) = store.query(vector=ONE, include_metadata=False).matches
        assert (bare.metadata, bare.values, bare.document) == (None, None, None)
        (valued,) = store.query(vector=ONE, include_values=True).matches
        self.assert_values(valued.values, np.array(ONE, dtype=np.float32))
        if self.capabilities.documents:
            (told,) = store.query(vector=ONE, include_document=True).matches
            assert told.document == "words"
        else:
            with pytest.raises(Unsupported):
                store.query(vector=ONE, include_document=True)

    def test_words(self, store: Any) -> None:
        if self.capabilities.documents:
            store.upsert([record("cat", ONE, document="the cat sat on the mat"),
                          record("dog", [0, 1, 0], document="a dog barked")])
        if not self.capabilities.text:
            with pytest.raises(Unsupported):
                store.query(text="dog")
            with pytest.raises(Unsupported):
                store.query(vector=ONE, text="dog")
            return
        assert [match.id for match in store.query(text="dog").matches] == ["dog"]
        both = store.query(vector=ONE, text="dog").matches
        assert {match.id for match in both} == {"cat", "dog"}

    def test_target_recall(self, store: Any) -> None:
        store.upsert([record("a")])
        if self.capabilities.target_recall:
            assert len(store.query(vector=ONE, target_recall=0.99).matches) == 1
        else:
            with pytest.raises(Unsupported):
                store.query(vector=ONE, target_recall=0.99)

    def test_what_is_not_declared_is_refused(self, store: Any) -> None:
        sparse = SparseVector([1], [1.0])
        if not self.capabilities.sparse:
            with pytest.raises(Unsupported):
                store.upsert([record("a"), record("b", sparse=sparse)])
        if not self.capabilities.documents:
            with pytest.raises(Unsupported):
                store.upsert([record("a"), record("b", document="words")])
        if not self.capabilities.sparse_query:
            with pytest.raises(Unsupported):
                store.query(sparse=sparse)
            with pytest.raises(Unsupported):
                store.query(vector=ONE, sparse=sparse)
        assert self.everything(store) == []

    def test_sparse_vectors(self, store: Any) -> None:
        if not self.capabilities.sparse_query:      # refused: see above
            return
        store.upsert([record("a", sparse=SparseVector([1, 5], [1.0, 2.0])), record("none"),
                      record("b", sparse=SparseVector([5], [1.0])), record("c", sparse=SparseVector([2], [9.0]))])
        matches = store.query(sparse=SparseVector([5], [3.0])).matches
        assert [(match.id, match.score) for match in matches] == [("a", 6.0), ("b", 3.0)]
        assert {match.id for match in store.query(vector=ONE, sparse=SparseVector([5], [3.0])).matches} >= {"a", "b"}

    def test_scores_are_added_up(self, make: Make) -> None:
        """Fusion by sum is exact: no record outside the answer has a larger sum than one inside."""
        if not self.capabilities.sparse_query:      # refused: see above
            return
        rng = np.random.default_rng(7)
        for metric in self.capabilities.metrics:
            store = make(DIM, metric)
            vectors = rng.normal(size=(300, DIM)).astype(np.float32)
            parts = [dict(zip(rng.choice(12, 3, replace=False).tolist(), rng.integers(-4, 5, 3).tolist(), strict=True))
                     if n % 3 else None for n in range(300)]
            store.upsert([record(f"r{n}", vectors[n], metadata={"n": n % 5}, sparse=None if part is None else
                                 SparseVector(list(part), [float(value) for value in part.values()]))
                          for n, part in enumerate(parts)])
            asked, sparse = rng.normal(size=DIM).astype(np.float32), {1: 1.5, 4: -2.0}
            sums = 0.5 * scores(metric, asked, vectors) + 2 * np.array(
                [sum((part or {}).get(place, 0) * value for place, value in sparse.items()) for part in parts])
            for where, few in ((None, range(300)), ({"n": 3}, range(3, 300, 5))):
                matches = store.query(vector=asked, sparse=SparseVector(list(sparse), list(sparse.values())), top_k=20,
                                      filter=where, fusion=Fusion(dense=0.5, sparse=2, method="sum")).matches
                best = sorted(few, key=lambda n: -sums[n])[:20]
                assert [match.score for match in matches] == pytest.approx(sums[best].tolist(), rel=1e-4, abs=1e-4)
                assert [match.score for match in matches] == pytest.approx(
                    [sums[int(match.id[1:])] for match in matches], rel=1e-4, abs=1e-4)

    def test_sources(self, store: Any) -> None:
        source, cut = Source("file:///a", "hash", "all the text"), [record("a#0"), record("a#1")]
        if not self.capabilities.sources:
            with pytest.raises(Unsupported):
                store.replace_sources([(source, cut)])
            with pytest.raises(Unsupported):
                store.remove_sources(["file:///a"])
            with pytest.raises(Unsupported):
                store.sources()
            with pytest.raises(Unsupported):
                store.source("file:///a")
            assert self.everything(store) == []
            return
        store.upsert([record("mine")])
        assert store.replace_sources([(source, cut)]) == 2
        assert store.source("file:///a") == source
        assert store.sources()["file:///a"].chunks == 2
        assert store.replace_sources([(source, cut[:1])]) == 1
        assert self.everything(store) == ["a#0", "mine"]
        assert store.remove_sources(["file:///a", "file:///b"]) == 1
        assert self.everything(store) == ["mine"]
        assert store.sources() == {}
        assert store.source("file:///a") is None

    # Filters

    def load_table(self, store: Any) -> tuple[dict[str, Metadata], dict[str, Unsupported]]:
        """Write all metadata of the table: what was taken, and what was refused."""
        taken, refused = {}, {}
        for identity, metadata in table().items():
            try:
                store.upsert([record(identity, metadata=metadata)])
                taken[identity] = metadata
            except Unsupported as error:
                refused[identity] = error
        return taken, refused

    def test_the_filter_table(self, store: Any) -> None:
        """Each filter once, against all metadata: right, or refused as declared."""
        taken, refused = self.load_table(store)
        tagged: dict[str, set[str]] = {}          # of each filter, and of each metadata: all tags of its rows
        distinct: dict[str, dict[str, Any]] = {}
        for row in ROWS:
            distinct[repr(row.filter)] = row.filter
            for name in (repr(row.filter), repr(sorted(row.metadata.items()))):
                tagged.setdefault(name, set()).update(row.tags)
        allowed = set(self.capabilities.filters_refused)
        wrong = [f"{metadata!r:.80}: {refused[identity]}" for identity, metadata in table().items()
                 if identity in refused and not allowed & tagged[repr(sorted(metadata.items()))]]
        for name, asked in distinct.items():
            try:
                found = self.everything(store, filter=asked)
            except Unsupported as error:
                wrong += [] if allowed & tagged[name] else [f"{name:.80}: {error}"]
                continue
            tree = filters.parse(asked)
            expected = sorted(identity for identity, metadata in taken.items() if tree.matches(metadata))
            if found != expected:
                odd = [taken[identity] for identity in set(found) ^ set(expected)]
                wrong.append(f"{name:.80}: {len(odd)} wrong, e.g. {odd[0]!r:.80}")
        assert wrong == [], "\n".join(wrong)

    def test_metadata_of_all_kinds_comes_back(self, store: Any) -> None:
        taken, _ = self.load_table(store)
        found = store.fetch(list(taken))
        assert [identity for identity in taken if not same(found[identity].metadata, taken[identity])] == []

    def test_a_filter_limits_the_search_and_not_its_answer(self, store: Any) -> None:
        """The nearest that match, however many others are nearer."""
        store.upsert([record(f"near{n}", [100 + n, 0, 0], metadata={"far": False}) for n in range(200)])
        store.upsert([record(f"far{n}", [n, 0, 0], metadata={"far": True}) for n in range(5)])
        metric = store.metric
        asked = ONE if metric != "euclidean" else [1000, 0, 0]
        matches = store.query(vector=asked, top_k=3, filter={"far": True}).matches
        assert len(matches) == 3
        assert all(match.id.startswith("far") for match in matches)

    def test_many_values(self, store: Any) -> None:
        store.upsert([record("a", metadata={"n": 9_999}), record("b", metadata={"n": 10_000}), record("c")])
        assert self.everything(store, filter={"n": {"$in": list(range(10_000))}}) == ["a"]
        assert self.everything(store, filter={"n": {"$nin": list(range(10_000))}}) == ["b", "c"]
        assert self.everything(store, filter={"$or": [{"n": n} for n in range(10_000)]}) == ["a"]

    def test_a_deep_filter(self, store: Any) -> None:
        store.upsert([record(identity, metadata={"n": n}) for n, identity in enumerate("abc")])
        deep: dict[str, Any] = {"n": {"$gte": 2}}
        for level in range(15):
            deep = {"$or": [{"$and": [deep, {"n": {"$lt": 100 + level}}]}, {"n": {"$lt": -level}}]}
        assert self.everything(store, filter=deep) == ["c"]

    def test_bad_filters(self, store: Any) -> None:
        store.upsert([record("a", metadata={"year": 1})])
        for refusal in REFUSED:
            if refusal.filter is None:            # no filter at all
                continue
            with pytest.raises(InvalidInput) as caught:
                store.query(vector=ONE, filter=refusal.filter)
            assert [word for word in refusal.words if word not in str(caught.value)] == []
            with pytest.raises(InvalidInput):
                store.delete(filter=refusal.filter)
        assert self.everything(store) == ["a"]
