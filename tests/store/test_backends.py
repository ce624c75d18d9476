"""What back-ends share: the shadow that makes filters expressible, the refusals, and a suite that notices what is wrong.

The engine here keeps records in a dict; engines with libraries of their own are tested in `tests/store/backends`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.base.records import Match, Metadata, Record, SparseVector, Vector
from madang.store import filters
from madang.store.backends import Capabilities, EngineCollection, Unsupported, shadow
from madang.store.filters import All, Condition, Either, Tree
from madang.store.protocol import IdPage
from madang.testing import store_suite
from madang.testing.filter_table import ROWS, Row
from madang.testing.store_suite import Make, StoreSuite, record

BIG = 2**53
whole = st.integers(-2**63, 2**63 - 1) | st.sampled_from([BIG, -BIG, 2**63 - 1, -2**63]).flatmap(
    lambda n: st.integers(max(n - 2000, -2**63), min(n + 2000, 2**63 - 1)))
numbers = whole | whole.map(float) | st.floats(allow_nan=False, allow_infinity=False)
strings = st.text(max_size=3) | st.text(min_size=90, max_size=100)
values = numbers | strings | st.booleans() | st.integers(-1, 1)


@example(-0.0, 0)
@example(0.0, -0.0)
@given(numbers, numbers)
def test_numbers_compare_as_their_pairs_and_as_their_texts(one: float, other: float) -> None:
    assert (shadow.split(one) < shadow.split(other)) is (one < other)
    assert (shadow.split(one) == shadow.split(other)) is (one == other)
    assert (shadow.ordered(one).encode() < shadow.ordered(other).encode()) is (one < other)
    assert (shadow.ordered(one) == shadow.ordered(other)) is (one == other)
    nearest, rest = shadow.split(one)
    assert rest == 0 or shadow.has_rest(nearest)
    assert -0x8000 <= rest < 0x8000


@given(values, values)
def test_equal_values_have_one_token(one: Any, other: Any) -> None:
    equal = filters.parse({"f": other}).matches({"f": one})
    assert (shadow.token("f", one) == shadow.token("f", other)) is equal


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60), values)
def test_fields_are_told_apart(one: str, other: str, value: Any) -> None:
    assert (shadow.key(one) == shadow.key(other)) is (one == other)
    assert (shadow.token(one, value) == shadow.token(other, value)) is (one == other)
    assert shadow.key(one).isascii()
    assert shadow.key(one).replace("_", "").isalnum()
    assert shadow.token(one, value) != shadow.exists(other)


def by_shadow(tree: Tree, metadata: Metadata) -> bool:
    """A tree evaluated on the shadow alone, by pairs of numbers."""
    if isinstance(tree, Condition):
        tokens, (nearest, rest) = set(shadow.tokens(metadata)), shadow.split_numbers(metadata)
        many = tree.operand if tree.name in ("$in", "$nin") else [tree.operand]
        if tree.name == "$exists":
            return (shadow.exists(tree.field) in tokens) is tree.operand
        if tree.name in ("$eq", "$in", "$ne", "$nin"):
            found = any(shadow.token(tree.field, value) in tokens for value in many)
            return found is (tree.name in ("$eq", "$in"))
        key = shadow.key(tree.field)
        if key not in nearest:
            return False
        pair = (nearest[key], rest.get(key, 0))
        return bool(filters._COMPARE[tree.name](pair, shadow.split(tree.operand)))
    parts = [by_shadow(part, metadata) for part in tree.parts]
    return all(parts) if isinstance(tree, All) else any(parts)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_shadow_decides_every_row(row: Row) -> None:
    assert by_shadow(filters.parse(row.filter), row.metadata) is row.verdict


class Dict(EngineCollection):
    """Every step as short as it can be."""

    engine: ClassVar[str] = "dict"
    capabilities: ClassVar[Capabilities] = Capabilities(sparse=True)

    def __init__(self, dim: int, metric: str) -> None:
        super().__init__("d", dim, metric)
        self.kept: dict[tuple[str, str], Record] = {}

    @classmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        cls.check_new(dim, metric)
        return cls(dim, metric)

    @classmethod
    def open(cls, url: str) -> Self:
        raise NotImplementedError

    def _put(self, records: list[Record], namespace: str) -> None:
        self.kept.update({(namespace, one.id): replace(one) for one in records})

    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        return {one: replace(self.kept[namespace, one]) for one in ids if (namespace, one) in self.kept}

    def chosen(self, tree: Tree | None, namespace: str) -> list[Record]:
        return [one for (space, _), one in self.kept.items() if space == namespace
                and (tree is None or self.matches(tree, one.metadata))]

    def matches(self, tree: Tree, metadata: Metadata) -> bool:
        return tree.matches(metadata)

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        found = self.chosen(tree, namespace)
        if not found:
            return []
        scores = store_suite.scores(self.metric, vector, np.stack([one.values for one in found]))
        return [Match(found[n].id, float(scores[n]), found[n].metadata, found[n].values if with_values else None,
                      found[n].document) for n in np.argsort(-scores, kind="stable")[:k]]

    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        return sum(self.kept.pop((namespace, one), None) is not None for one in ids)

    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        return self._delete_ids([one.id for one in self.chosen(tree, namespace)], namespace)

    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        ids = sorted(one.id for one in self.chosen(None, namespace) if one.id.startswith(prefix)
                     and one.id > (cursor or ""))
        return IdPage(ids[:limit], ids[limit - 1] if len(ids) > limit else None)

    def _counts(self) -> dict[str, int]:
        spaces = [space for space, _ in self.kept]
        return {space: spaces.count(space) for space in set(spaces)}

    def drop(self) -> None:
        self.kept.clear()

    def close(self) -> None:
        pass


class Poor(Dict):
    """Declares as little as can be, and takes no text beyond ASCII, neither in metadata nor in filters."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        metrics=("dot",), namespaces=False, documents=False, update_metadata=False, delete_by_filter=False,
        list_ids=False, list_prefix=False, unicode_ids=False, zero_vectors=False, max_top_k=100,
        filters_refused={"unicode": "it knows only ASCII"})

    def check_record(self, record: Record) -> None:
        super().check_record(record)
        self.check_text(record.metadata)

    def check_text(self, asked: Any) -> None:
        if not repr(asked).isascii():
            raise Unsupported(f"{asked!r:.80} is not supported.")

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        self.check_text(tree)
        return super()._search(vector, k, namespace, tree, with_values)


class TestDict(StoreSuite):
    capabilities: ClassVar[Capabilities] = Dict.capabilities

    @pytest.fixture
    def make(self) -> Make:
        return lambda dim, metric: Dict.create("", dim, metric)


class TestPoor(StoreSuite):
    capabilities: ClassVar[Capabilities] = Poor.capabilities

    @pytest.fixture
    def make(self) -> Make:
        return lambda dim, metric: Poor.create("", dim, metric)


# The suite notices. Each engine below is wrong in one way, and one test must fail.


class NegationsNeedTheField(Dict):
    def matches(self, tree: Tree, metadata: Metadata) -> bool:
        if isinstance(tree, Condition):
            return tree.matches(metadata) and not (tree.name in ("$ne", "$nin") and tree.field not in metadata)
        parts = [self.matches(part, metadata) for part in tree.parts]
        return any(parts) if isinstance(tree, Either) else all(parts)


class FiltersAfterTheSearch(Dict):
    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        found = super()._search(vector, k, namespace, None, with_values)
        return [match for match in found if tree is None or tree.matches(match.metadata or {})]


class RoundsNumbers(Dict):
    def _put(self, records: list[Record], namespace: str) -> None:
        super()._put([replace(one, metadata={key: float(value) if type(value) is int else value for key, value
                                             in one.metadata.items()}) for one in records], namespace)


class MixesNamespaces(Dict):
    def chosen(self, tree: Tree | None, namespace: str) -> list[Record]:
        return [one for one in self.kept.values() if tree is None or tree.matches(one.metadata)]


class MergesOnUpsert(Dict):
    def _put(self, records: list[Record], namespace: str) -> None:
        for one in records:
            old = self._get([one.id], namespace).get(one.id, one).metadata
            super()._put([replace(one, metadata={**old, **one.metadata})], namespace)


class ScoresDistances(Dict):
    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        found = super()._search(vector, k, namespace, tree, with_values)
        return [replace(match, score=-math.sqrt(-match.score)) for match in found] if self.metric == "euclidean" \
            else found


class LosesTheLastPage(Dict):
    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        page = super()._list(prefix, limit, cursor, namespace)
        return IdPage(page.ids, page.cursor if len(page.ids) < limit else None)


@pytest.mark.parametrize(("engine", "test", "options"), [
    (NegationsNeedTheField, "test_the_filter_table", {}),
    (FiltersAfterTheSearch, "test_a_filter_limits_the_search_and_not_its_answer", {}),
    (RoundsNumbers, "test_the_filter_table", {}),
    (RoundsNumbers, "test_metadata_of_all_kinds_comes_back", {}),
    (MixesNamespaces, "test_namespaces_are_apart", {}),
    (MergesOnUpsert, "test_an_upsert_replaces_the_whole_record", {}),
    (ScoresDistances, "test_scores", {"metric": "euclidean"}),
    (LosesTheLastPage, "test_list_ids", {}),
])
def test_the_suite_notices(engine: type[Dict], test: str, options: dict[str, str]) -> None:
    suite = StoreSuite()

    def make(dim: int, metric: str) -> Dict:
        return engine.create("", dim, metric)

    given = options | {"make": make} if test == "test_scores" else {"store": make(3, "dot")}
    with pytest.raises((AssertionError, KeyError)):
        getattr(suite, test)(**given)
    good = options | {"make": lambda dim, metric: Dict.create("", dim, metric)} if test == "test_scores" else {
        "store": Dict.create("", 3, "dot")}
    getattr(suite, test)(**good)


def test_a_tag_that_is_not_declared_excuses_nothing() -> None:
    suite = StoreSuite()
    with pytest.raises(AssertionError, match="not supported"):
        suite.test_the_filter_table(Poor.create("", 3, "dot"))


def test_a_refusal_names_the_engine_and_a_remedy() -> None:
    with pytest.raises(Unsupported) as caught:
        Dict.create("", 3).query(text="words")
    assert str(caught.value) == "query by text is not supported by dict. Query by vector."
    assert caught.value.code == "unsupported"
    assert isinstance(caught.value, NotImplementedError)
    with pytest.raises(Unsupported, match="record 'a': sparse is not supported by dict"):
        Poor.create("", 3, "dot").upsert([record("a", sparse=SparseVector([1], [1.0]))])
