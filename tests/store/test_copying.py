from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base import registry
from madang.base.errors import Conflict, Corrupt, InvalidInput, MissingDependency, NotFound
from madang.base.records import Match, Record, Source, SparseVector, Vector
from madang.store import Collection, Database, copying
from madang.store.addresses import open_store
from madang.store.backends import Capabilities, EngineCollection, Unsupported
from madang.store.copying import copy, survey
from madang.store.filters import Tree
from madang.store.protocol import IdPage

WHOLE = Capabilities(sparse=True)


class Memory(EngineCollection):
    """An engine in memory that can be made poorer, slower and worse."""

    engine = "memory"
    capabilities = WHOLE

    def __init__(self, dim: int = 3, metric: str = "cosine", capabilities: Capabilities = WHOLE) -> None:
        super().__init__("memory", dim, metric)
        self.capabilities = capabilities  # type: ignore[misc]
        self.spaces: dict[str, dict[str, Record]] = {}
        self.upserts: list[int] = []
        self.fails_at: int | None = None
        self.spoil: Callable[[Record], Record | None] = lambda record: record
        self.hidden = 0                   # readings that do not yet see what was written

    @classmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        return cls(dim, metric)

    @classmethod
    def open(cls, url: str) -> Self:
        raise NotFound(url)

    def _put(self, records: list[Record], namespace: str) -> None:
        if len(self.upserts) == self.fails_at:
            raise OSError("the line went dead")
        self.upserts.append(len(records))
        kept = {record.id: self.spoil(record) for record in records}
        self.spaces.setdefault(namespace, {}).update({key: record for key, record in kept.items() if record})

    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        if self.upserts and self.hidden:
            self.hidden -= 1
            return {}
        space = self.spaces.get(namespace, {})
        return {identity: space[identity] for identity in ids if identity in space}

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        raise NotImplementedError

    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        return sum(self.spaces.get(namespace, {}).pop(identity, None) is not None for identity in ids)

    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        raise NotImplementedError

    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        ids = sorted(identity for identity in self.spaces.get(namespace, {}) if identity > (cursor or ""))
        return IdPage(ids[:limit], ids[limit - 1] if len(ids) > limit else None)

    def _counts(self) -> dict[str, int]:
        return {space: len(records) for space, records in self.spaces.items()}

    def drop(self) -> None:
        self.spaces = {}

    def close(self) -> None:
        pass


def records(count: int, seed: int = 0, **rest: Any) -> list[Record]:
    vectors = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return [Record(f"r{n:03}", values, metadata={"n": n, "even": n % 2 == 0}, **rest)
            for n, values in enumerate(vectors)]


def content(store: Any) -> dict[tuple[str, str], Any]:
    """Everything in a store, comparable."""
    found = {}
    for space in store.stats().namespaces:
        for page in copying._pages(store, space, 1000):
            for record in page:
                sparse = record.sparse and (list(record.sparse.indices), list(record.sparse.values))
                found[space, record.id] = (record.values.tolist(), sparse, repr(sorted(record.metadata.items())),
                                           record.document, record.context)
    return found


@pytest.fixture
def filled(docs: Collection) -> Collection:
    docs.upsert(records(23, document="둘", context="하나"))
    docs.upsert([Record("s", np.ones(3, dtype=np.float32), SparseVector([1, 9], [0.5, 2.0]))], namespace="마당")
    docs.upsert(records(7, seed=1), namespace="마당")
    return docs


@pytest.mark.parametrize("batch", [1, 7, 23, 24, 500])
def test_everything_arrives_and_comes_back(filled: Collection, database: Database, batch: int) -> None:
    away, steps = Memory(), []
    done = copy(filled, away, batch=batch, progress=lambda n, total: steps.append((n, total)))
    assert (done.copied, done.skipped, done.verified, done.extra) == (31, 0, 31, 0)
    assert done.namespaces == {"": 23, "마당": 8}
    assert not done.losses
    assert content(away) == content(filled)
    assert steps[-1] == (31, 31)
    assert [n for n, _ in steps] == sorted({n for n, _ in steps})
    assert max(away.upserts) <= batch
    home = database.create("home", 3)
    copy(away, home, batch=batch)
    assert content(home) == content(filled)


_values = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_metadata = st.dictionaries(
    _text.filter(lambda key: bool(key) and not key.startswith("$")),
    st.one_of(_text, st.integers(-2**63, 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(),
              st.lists(_text, max_size=3)), max_size=4)
_record = st.builds(lambda i, v, m, d, c: Record(f"r{i}", np.array(v, dtype=np.float32), None, m, d, c),
                    st.integers(0, 20), _values, _metadata, st.none() | _text, st.none() | _text)


@given(st.lists(st.tuples(st.sampled_from(["", "a"]), _record)), st.lists(st.tuples(st.sampled_from(["", "a"]), _record)))
def test_whatever_was_there_the_source_is_in_the_target_after(mine: Any, theirs: Any) -> None:
    source, target = Memory(), Memory()
    for store, written in ((source, mine), (target, theirs)):
        for space, record in written:
            store.upsert([record], space)
    before = content(target)
    done = copy(source, target, batch=3)
    after, wanted = content(target), content(source)

    def loosely(found: Any) -> Any:       # a number that only changed its type is the same record
        return found[0], found[1], found[3:]

    assert {key: loosely(after[key]) for key in wanted} == {key: loosely(found) for key, found in wanted.items()}
    assert {key: found for key, found in after.items() if key not in wanted} \
        == {key: found for key, found in before.items() if key not in wanted}
    assert done.copied + done.skipped == done.verified == len(wanted)
    assert done.extra == sum(1 for space, identity in set(before) - set(wanted)
                             if space in {name for name, _ in wanted})
    again = copy(source, target, batch=3)
    assert (again.copied, again.skipped) == (0, len(wanted))


def test_a_copy_that_was_cut_off_goes_on(filled: Collection) -> None:
    away = Memory()
    away.fails_at = 3
    with pytest.raises(OSError, match="went dead"):
        copy(filled, away, batch=5)
    assert sum(away.upserts) == 15
    away.fails_at, away.upserts = None, []
    done = copy(filled, away, batch=5)
    assert (done.copied, done.skipped, done.verified) == (16, 15, 31)
    assert content(away) == content(filled)
    done = copy(filled, away, resume=False)
    assert (done.copied, done.skipped) == (31, 0)


@pytest.mark.parametrize("change", [
    {"values": np.array([9, 9, 9], dtype=np.float32)}, {"metadata": {"n": 4}}, {"metadata": {"n": 4, "even": 1}},
    {"document": "other"}, {"context": None}, {"sparse": SparseVector([1], [1.0])}])
def test_a_record_that_differs_is_written_again(filled: Collection, change: Any) -> None:
    away = Memory()
    copy(filled, away)
    away.spaces[""]["r004"] = replace(away.spaces[""]["r004"], **change)
    assert copy(filled, away).copied == 1
    assert content(away) == content(filled)


@pytest.mark.parametrize(("spoil", "what"), [
    (lambda record: None if record.id == "r010" else record, "all of it"),
    (lambda record: replace(record, values=np.nextafter(record.values, np.float32(9))), "values"),
    (lambda record: replace(record, metadata={**record.metadata, "even": 1}), "metadata"),
    (lambda record: replace(record, document=None), "document"),
    (lambda record: replace(record, context="x"), "context"),
    (lambda record: replace(record, sparse=None), "sparse"),
    (lambda record: replace(record, sparse=record.sparse and SparseVector([1, 8], [0.5, 2.0])), "sparse"),
    (lambda record: replace(record, sparse=record.sparse and SparseVector([1, 9], [0.5, 2.5])), "sparse")])
def test_what_comes_back_different_is_an_error(filled: Collection, spoil: Any, what: str) -> None:
    away = Memory()
    away.spoil = spoil
    with pytest.raises(Corrupt, match=what):
        copy(filled, away, batch=4)


def test_rounding_is_allowed_where_it_is_declared(filled: Collection) -> None:
    away = Memory(capabilities=replace(WHOLE, exact_values=False))
    away.spoil = lambda record: replace(record, values=record.values * np.float32(1 + 3e-6))
    assert copy(filled, away).verified == 31
    assert copy(filled, away).skipped == 31
    away.spoil = lambda record: replace(record, values=record.values * np.float32(1.01))
    with pytest.raises(Corrupt, match="values"):
        copy(filled, away, resume=False)


def test_a_sample_is_read_back(filled: Collection) -> None:
    done = copy(filled, Memory(), batch=10, sample=2)
    assert (done.copied, done.verified) == (31, 2 * 4)


def test_records_that_vanish_are_missed_in_the_count(filled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Memory()
    monkeypatch.setattr(away, "_counts", lambda: {"": 22, "마당": 8})
    with pytest.raises(Corrupt, match="1 records too few in namespace ''"):
        copy(filled, away)


def test_patience_with_a_service_that_is_late(filled: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(copying.time, "sleep", waits.append)
    late = Memory(capabilities=replace(WHOLE, read_your_writes=False))
    late.hidden = 4
    assert copy(filled, late, resume=False).verified == 31
    assert waits == [0.25, 0.5, 1.0, 2.0]
    late.hidden = 10_000
    waits.clear()
    with pytest.raises(Corrupt, match="all of it"):
        copy(filled, late, resume=False)
    assert 100 < sum(waits) <= 120
    prompt = Memory()
    prompt.hidden = 1
    with pytest.raises(Corrupt):
        copy(filled, prompt, resume=False)


POOR = [
    (replace(WHOLE, documents=False), "23 documents", {"document": None, "context": None}),
    (replace(WHOLE, sparse=False), "1 sparse vector ", {"sparse": None}),
    (replace(WHOLE, namespaces=False), "8 records", {}),
    (Capabilities(documents=False), "1 sparse vector", {"document": None, "context": None, "sparse": None})]


@pytest.mark.parametrize(("capabilities", "said", "without"), POOR)
def test_what_a_target_cannot_hold_is_told_first(filled: Collection, capabilities: Capabilities, said: str,
                                                 without: dict[str, Any]) -> None:
    away = Memory(capabilities=capabilities)
    with pytest.raises(Unsupported, match="would be left out") as caught:
        copy(filled, away)
    assert said.strip() in str(caught.value)
    assert "lossy" in str(caught.value)
    assert away.upserts == []
    done = copy(filled, away, lossy=True)
    assert said.strip() in str(done.losses)
    expected = {key: found for key, found in content(filled).items() if capabilities.namespaces or not key[0]}
    assert set(content(away)) == set(expected)
    assert done.verified == len(expected)
    for space, identity in content(away):
        record = away.spaces[space][identity]
        (kept,) = filled.fetch([identity], space).values()
        assert copying.difference(replace(kept, **without), record, away) is None
    assert copy(filled, away, lossy=True).skipped == len(expected)


def test_records_it_cannot_hold_at_all_are_left_out(docs: Collection) -> None:
    docs.upsert([Record("마당", np.ones(3, dtype=np.float32)), *records(3)])
    away = Memory(capabilities=replace(WHOLE, unicode_ids=False))
    assert str(survey(docs, away)) == "1 record"
    with pytest.raises(Unsupported, match=r"1 record .*beyond ASCII"):
        copy(docs, away)
    assert copy(docs, away, lossy=True).copied == 3


def test_sources_are_not_copied_and_told(docs: Collection, database: Database) -> None:
    docs.replace_sources([(Source("file:///a", "hash", "text"), records(3))])
    other = database.create("other", 3)
    with pytest.raises(Unsupported, match="1 source "):
        copy(docs, other)
    done = copy(docs, other, lossy=True)
    assert (done.copied, str(done.losses)) == (3, "1 source")


def test_collections_that_do_not_fit(docs: Collection) -> None:
    with pytest.raises(Conflict, match=r"dim 3, .* 4"):
        copy(docs, Memory(dim=4))
    with pytest.raises(Conflict, match="metric cosine"):
        copy(docs, Memory(metric="dot"))
    for batch in (0, -1, True, 2.5, 10_001):
        with pytest.raises(InvalidInput, match="batch"):
            copy(docs, Memory(), batch=batch)  # type: ignore[arg-type]


def test_an_empty_collection(docs: Collection) -> None:
    done = copy(docs, Memory())
    assert (done.copied, done.skipped, done.verified, done.namespaces) == (0, 0, 0, {})


def test_numbers_of_another_type_are_the_same_and_booleans_are_not() -> None:
    one, store = Record("a", np.zeros(3, dtype=np.float32), metadata={"n": 1}), Memory()
    assert copying.difference(one, replace(one, metadata={"n": 1.0}), store) is None
    assert copying.difference(one, replace(one, metadata={"n": True}), store) == "metadata"
    assert copying.difference(one, replace(one, metadata={"n": math.nextafter(1, 2)}), store) == "metadata"


# Addresses


class _Workspaces:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, *asked: Any) -> Any:
        self.asked.append(asked)
        return Memory()


class _Point:
    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_points", lambda group: {"memory": _Point(Memory)} if group == "madang.stores" else {})


def test_addresses(engines: None) -> None:
    spaces = _Workspaces()
    open_store("docs", spaces)
    open_store("마당", spaces, dim=4, metric="dot")
    open_store("madang:///srv/my%20courtyard?collection=docs", spaces, dim=4)
    assert spaces.asked == [("docs", None, None, "cosine"), ("마당", None, 4, "dot"),
                            ("docs", Path("/srv/my courtyard"), 4, "cosine")]
    made = open_store("memory://x", spaces, dim=5, metric="dot")
    assert (made.dim, made.stats().metric) == (5, "dot")
    with pytest.raises(NotFound):
        open_store("memory://x", spaces)
    with pytest.raises(NotFound, match=r"'ftp'.*memory"):
        open_store("ftp://x", spaces)
    for wrong in ("", "madang://host/x?collection=a", "madang:///x", "madang://?collection=a"):
        with pytest.raises(InvalidInput):
            open_store(wrong, spaces)
    assert len(spaces.asked) == 3


def test_an_engine_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ModuleNotFoundError("No module named 'kiwipiepy'", name="kiwipiepy")
    monkeypatch.setattr(registry, "_points", lambda group: {"postgresql": _Point(missing)})
    for scheme in ("postgresql", "postgres"):
        with pytest.raises(MissingDependency, match="pip install"):
            open_store(f"{scheme}://x?collection=a", _Workspaces())
