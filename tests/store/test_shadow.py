"""`collection.shadow`: another model's vectors beside the live ones, over to them and back, against a plain model."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray

from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound
from madang.index import HNSW, Flat
from madang.store import Collection, Database, schema
from madang.store.salvage import salvage

DIMS = {"a": 5, "b": 9, "c": 5, "d": 5}
IDS = [f"r{n}" for n in range(12)]


def embed(model: str, text: str) -> NDArray[np.float32]:
    """(dim,): what the model makes of a text."""
    made = np.random.default_rng([zlib.crc32(model.encode()), zlib.crc32(text.encode())]).standard_normal(DIMS[model])
    return made.astype(np.float32)


def record(model: str, identity: str, version: int) -> dict[str, Any]:
    text = f"{identity} version {version}"
    return {"id": identity, "values": embed(model, text), "metadata": {"v": version}, "document": text}


def fill(collection: Collection, model: str, limit: int = 1000) -> int:
    """Give so many records that lack one their vector in the shadow."""
    lacking = collection.shadow.lacking(limit)
    if not lacking:
        return 0
    return collection.shadow.put([each.row for each in lacking],
                                 [embed(model, str(each.record.document)) for each in lacking])


def build(collection: Collection, model: str) -> None:
    collection.shadow.begin(DIMS[model], model)
    fill(collection, model, 10_000)


def best(model: str, texts: dict[str, str], asked: NDArray[np.float32]) -> list[str]:
    """The ids of all records by cosine with a query, best first."""
    scores = {i: float(np.dot(v, asked) / np.linalg.norm(v)) for i, v in ((i, embed(model, t)) for i, t in texts.items())}
    return sorted(scores, key=lambda i: -scores[i])


class Machine(RuleBasedStateMachine):
    """The model: the texts in the order of their rows, what is searched, and who has a vector in the shadow."""

    @initialize(graph=st.booleans(), count=st.integers(0, 12), begun=st.sampled_from(["", "b", "c"]))
    def make(self, graph: bool, count: int, begun: str) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.directory.name))
        self.database.create("c", DIMS["a"], index=HNSW(m=4) if graph else Flat(), embedder="a")
        self.texts: dict[str, str] = {}
        self.live, self.beside, self.previous = "a", "", False
        self.have: set[str] = set()
        if count:
            self.upsert(IDS[:count], 0)
        if begun:
            self.begin(begun)
            self.fill(8)

    @property
    def docs(self) -> Collection:
        return self.database.open("c")

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=5, unique=True), version=st.integers(0, 99))
    def upsert(self, ids: list[str], version: int) -> None:
        self.docs.upsert([record(self.live, identity, version) for identity in ids])
        for identity in ids:
            self.texts.pop(identity, None)
            self.texts[identity] = f"{identity} version {version}"
            self.have.discard(identity)

    @precondition(lambda self: self.texts)
    @rule(number=st.integers(0, 11), version=st.integers(0, 99), values=st.booleans())
    def update(self, number: int, version: int, values: bool) -> None:
        identity = list(self.texts)[number % len(self.texts)]
        text = self.texts.pop(identity)
        self.docs.update(identity, embed(self.live, text) if values else None, {"touched": version})
        self.texts[identity] = text
        if values:                  # perhaps made from something else than the text: it is made anew
            self.have.discard(identity)

    @rule(ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True))
    def delete(self, ids: list[str]) -> None:
        self.docs.delete(ids)
        for identity in ids:
            self.texts.pop(identity, None)
            self.have.discard(identity)

    @rule(model=st.sampled_from(sorted(DIMS)))
    def begin(self, model: str) -> None:
        if model == self.live:
            return
        if self.beside and self.previous and model != self.beside:
            with pytest.raises(Conflict, match="can still be rolled back"):
                self.docs.shadow.begin(DIMS[model], model)
            return
        if model != self.beside:
            self.beside, self.previous, self.have = model, False, set()
        stats = self.docs.shadow.begin(DIMS[model], model)
        assert (stats.records, stats.missing) == (len(self.have), len(self.texts) - len(self.have))

    @precondition(lambda self: self.beside)
    @rule(limit=st.sampled_from([1, 2, 100]))
    def fill(self, limit: int) -> None:
        lacking = [identity for identity in self.texts if identity not in self.have][:limit]
        assert fill(self.docs, self.beside, limit) == len(lacking)
        self.have.update(lacking)

    @rule(finish=st.booleans())
    def swap(self, finish: bool) -> None:
        shadow = self.docs.shadow
        model, missing = self.beside, len(self.texts) - len(self.have)
        given = (lambda records: [embed(model, str(r.document)) for r in records]) if finish else None
        if not self.beside:
            with pytest.raises(NotFound, match="has no shadow"):
                shadow.swap()
        elif missing and not finish:
            with pytest.raises(Conflict, match=f"{missing} records of collection 'c' have no vector by {model}"):
                shadow.swap()
        else:
            assert shadow.swap(given) == missing
            self.live, self.beside, self.previous = self.beside, self.live, not self.previous
            self.have = set(self.texts)

    @precondition(lambda self: self.beside)
    @rule()
    def drop(self) -> None:
        self.docs.shadow.drop()
        self.beside, self.previous, self.have = "", False, set()

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = Database(Path(self.directory.name))

    @rule(graph=st.booleans())
    def set_index(self, graph: bool) -> None:
        self.docs.set_index(HNSW(m=4) if graph else Flat())

    @invariant()
    def the_same(self) -> None:
        docs = self.docs
        assert (docs.dim, docs.embedder) == (DIMS[self.live], self.live)
        stored = docs.fetch(IDS)
        assert {i: r.document for i, r in stored.items()} == self.texts
        assert all(np.array_equal(embed(self.live, str(r.document)), np.asarray(r.values)) for r in stored.values())
        for n in range(2):
            asked = embed(self.live, f"asked {n}")
            assert [m.id for m in docs.query(vector=asked, top_k=20).matches] == best(self.live, self.texts, asked)

    @invariant()
    def the_shadow(self) -> None:
        shadow = self.docs.shadow
        found = shadow.stats()
        if not self.beside:
            assert found is None
            return
        assert found is not None
        assert (found.embedder, found.dim, found.previous) == (self.beside, DIMS[self.beside], self.previous)
        assert (found.records, found.missing) == (len(self.have), len(self.texts) - len(self.have))
        ready: dict[str, str] = {}
        for identity, text in self.texts.items():
            if identity not in self.have:
                break
            ready[identity] = text
        asked = embed(self.beside, "asked")
        answer = shadow.query(vector=asked, top_k=20, include_values=True).matches
        assert [match.id for match in answer] == best(self.beside, ready, asked)
        assert all(np.array_equal(embed(self.beside, ready[m.id]), np.asarray(m.values)) for m in answer)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.directory.cleanup()


Machine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
test_over_and_back_against_a_model = Machine.TestCase


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with closing(Database(tmp_path)) as made:
        yield made


def made(database: Database, count: int = 40, index: Any = None) -> Collection:
    docs = database.create("c", DIMS["a"], index=index, embedder="a")
    docs.upsert([record("a", f"r{n}", 0) for n in range(count)])
    return docs


READER = """
import sys
from pathlib import Path
from madang.store import Database
from tests.store.test_shadow import embed
docs = Database(Path(sys.argv[1])).open("c")
for line in sys.stdin:
    model = line.strip()
    try:
        found = [m.id for m in docs.query(vector=embed(model, "r7 version 0"), top_k=1).matches]
    except Exception as error:
        found = type(error).__name__
    print(docs.dim, docs.embedder, docs.stats().dim, found, flush=True)
"""


def test_another_process_sees_the_cut_over(database: Database, tmp_path: Path, root: Path) -> None:
    docs = made(database)
    build(docs, "b")
    reader = subprocess.Popen([sys.executable, "-c", READER, str(tmp_path)], cwd=root, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdin is not None
    assert reader.stdout is not None

    def asks(model: str) -> str:
        reader.stdin.write(f"{model}\n")        # type: ignore[union-attr]
        reader.stdin.flush()                    # type: ignore[union-attr]
        return reader.stdout.readline().strip()  # type: ignore[union-attr]

    with reader.stdin, reader.stdout:
        assert asks("a") == "5 a 5 ['r7']"
        assert asks("b") == "5 a 5 InvalidInput"
        docs.shadow.swap()
        assert asks("b") == "9 b 9 ['r7']"
        assert asks("a") == "9 b 9 InvalidInput"
        docs.shadow.swap()
        assert asks("a") == "5 a 5 ['r7']"
        docs.shadow.drop()
        build(docs, "c")
        docs.shadow.swap()
        assert asks("c") == "5 c 5 ['r7']"      # of the same dimension, in the same table as the shadow that was dropped
    assert reader.wait() == 0


def test_a_process_that_missed_the_cut_over_writes_nothing_wrong(database: Database, tmp_path: Path) -> None:
    docs = made(database)
    late = Database(tmp_path)
    theirs = late.open("c")
    assert theirs.query(vector=embed("a", "x"), top_k=1).matches
    build(docs, "b")
    docs.shadow.swap()
    database.close()
    with pytest.raises(InvalidInput, match="has dimension 5, but the collection has 9"):
        theirs.upsert([record("a", "late", 1)])
    with pytest.raises(Conflict, match="was made with b, not a"):
        theirs.replace_sources([], embedder="a")
    theirs.upsert([record("b", "late", 1)])
    assert theirs.query(vector=embed("b", "late version 1"), top_k=1).matches[0].id == "late"
    late.close()


def test_writers_and_readers_go_on_meanwhile(database: Database) -> None:
    docs = made(database, 300, HNSW(m=4))
    stop, failures = threading.Event(), list[str]()

    def ask() -> None:
        while not stop.is_set():
            for model in ("a", "b"):
                try:
                    found = docs.query(vector=embed(model, "r5 version 0"), top_k=1).matches
                except InvalidInput:
                    continue            # of the model that is not searched just now
                if [match.id for match in found] != ["r5"]:
                    failures.append(f"{model}: {found}")

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            model = docs.embedder or ""
            try:
                docs.upsert([record(model, f"w{number % 40}", number)])
                docs.delete([f"w{(number + 7) % 40}"])
            except InvalidInput:
                continue                # another model by now: the writer asks which, and goes on

    threads = [threading.Thread(target=work) for work in (ask, ask, write)]
    for thread in threads:
        thread.start()
    models = ["a", "b"]
    docs.shadow.begin(DIMS["b"], "b")
    for _ in range(12):
        model = models[1]
        while fill(docs, model, 50) > 10:
            pass
        docs.shadow.wait_until_indexed()
        docs.shadow.swap(lambda records, model=model: [embed(model, str(r.document)) for r in records])
        models.reverse()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    stored = docs.fetch([*(f"w{n}" for n in range(40)), *(f"r{n}" for n in range(300))])
    assert all(np.array_equal(embed(models[0], str(r.document)), np.asarray(r.values)) for r in stored.values())


def test_one_job_at_a_time(database: Database) -> None:
    docs = made(database)
    refused: list[str] = []

    def other() -> None:
        for work in (lambda: docs.shadow.begin(9, "b"), docs.shadow.drop, docs.shadow.swap):
            try:
                work()
            except Conflict as error:
                refused.append(str(error))

    with docs.shadow.working():
        docs.shadow.begin(9, "b")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused == ["collection 'c' is being re-embedded. Wait until that is done."] * 3


def test_the_index_of_the_shadow_is_kept(database: Database, tmp_path: Path) -> None:
    docs = made(database, 3000, HNSW(m=4))
    build(docs, "b")
    assert docs.shadow.wait_until_indexed(60)
    stats = docs.shadow.stats()
    assert stats is not None
    assert stats.records == 3000
    audit = docs.shadow.audit(samples=50)
    assert audit.index is not None
    assert audit.missing == 0
    database.close()
    assert list(tmp_path.rglob("index2-*.bin"))
    again = Database(tmp_path)
    docs = again.open("c")
    docs.shadow.swap()
    assert docs.query(vector=embed("b", "r9 version 0"), top_k=1).matches[0].id == "r9"
    view = docs._current._view
    assert view is not None
    assert view.token                   # read from the files, not built
    assert view.dense.absorbed >= 2048
    docs.shadow.drop()
    assert not list(tmp_path.rglob("index-*.bin"))
    assert list(tmp_path.rglob("index2-*.bin"))
    again.close()


def test_an_index_of_another_model_is_not_believed(database: Database, tmp_path: Path) -> None:
    """Of the same table, the same dimension, the same parameters and the same records."""
    docs = made(database, 2500, HNSW(m=4))
    build(docs, "c")
    assert docs.shadow.wait_until_indexed(60)
    database.close()
    assert list(tmp_path.rglob("index2-*.bin"))
    again = Database(tmp_path)
    docs = again.open("c")
    build(docs, "d")
    assert docs.shadow.query(vector=embed("d", "r9 version 0"), top_k=1).matches[0].id == "r9"
    docs.shadow.swap()
    found = [docs.query(vector=embed("d", f"r{n} version 0"), top_k=1).matches[0].id for n in range(0, 2500, 50)]
    assert found == [f"r{n}" for n in range(0, 2500, 50)]
    again.close()


def test_a_view_that_was_left_is_not_kept_as_the_new_one(database: Database, tmp_path: Path) -> None:
    docs = made(database, 2500, HNSW(m=4))
    assert docs.wait_until_indexed(60)
    old = docs._current._view
    build(docs, "c")
    assert old is not None
    docs.shadow.swap()              # nobody has asked the shadow: its view is made at the next query
    assert docs.query(vector=embed("c", "r9 version 0"), top_k=1).matches[0].id == "r9"
    docs._current._save(old)        # as the thread would that was at it
    assert not list(tmp_path.rglob("index2*"))
    docs.wait_until_indexed(60)
    found = [docs.query(vector=embed("c", f"r{n} version 0"), top_k=1).matches[0].id for n in range(0, 2500, 50)]
    assert found == [f"r{n}" for n in range(0, 2500, 50)]


def test_snapshots_hold_both(database: Database, tmp_path: Path) -> None:
    docs = made(database)
    docs.shadow.begin(9, "b")
    fill(docs, "b", 15)
    docs.snapshot("half")
    fill(docs, "b")
    docs.shadow.swap()
    docs.snapshot("over")
    docs.upsert([record("b", "new", 0)])
    docs = database.restore("c", "half")
    stats = docs.shadow.stats()
    assert stats is not None
    assert (docs.dim, stats.records, stats.missing) == (5, 15, 25)
    fill(docs, "b")
    docs.shadow.swap()
    docs.backup(tmp_path / "kept")
    with closing(docs.as_of("over")) as past:
        assert past.dim == 9
        assert past.query(vector=embed("b", "r3 version 0"), top_k=1).matches[0].id == "r3"
        assert past.shadow.query(vector=embed("a", "r3 version 0"), top_k=1).matches[0].id == "r3"
        with pytest.raises(InvalidInput, match="can only be read"):
            past.shadow.swap()
    again = database.restore_backup(tmp_path / "kept", "d")
    again.shadow.swap()
    assert (again.dim, again.query(vector=embed("a", "r3 version 0"), top_k=1).matches[0].id) == (5, "r3")


def test_salvage_keeps_what_is_searched(database: Database, tmp_path: Path) -> None:
    docs = made(database)
    build(docs, "b")
    docs.shadow.swap()
    docs.upsert([record("b", "new", 0)])
    database.close()
    done = salvage(tmp_path / "collections" / "c", tmp_path / "collections" / "rescued")
    assert (done.records, done.lost) == (41, [])
    again = Database(tmp_path)
    rescued = again.open("rescued")
    assert (rescued.dim, rescued.embedder, rescued.shadow.stats()) == (9, "b", None)
    assert rescued.query(vector=embed("b", "new version 0"), top_k=1).matches[0].id == "new"
    again.close()


def test_a_damaged_vector_of_the_shadow_is_told(database: Database, tmp_path: Path) -> None:
    docs = made(database)
    build(docs, "b")
    database.close()
    file = tmp_path / "collections" / "c" / schema.FILE_NAME
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE second_vectors SET data = zeroblob(36) WHERE row = 3")
    again = Database(tmp_path)
    docs = again.open("c")
    assert docs.query(vector=embed("a", "r2 version 0"), top_k=1).matches[0].id == "r2"
    with pytest.raises(Corrupt, match="vector of record 'r2'"):
        docs.shadow.query(vector=embed("b", "x"))
    docs.update("r2", set_metadata={"new": 1})      # what is damaged is not carried over
    assert [each.record.id for each in docs.shadow.lacking()] == ["r2"]
    fill(docs, "b")
    docs.shadow.swap()
    assert docs.query(vector=embed("b", "r2 version 0"), top_k=1).matches[0].id == "r2"
    again.close()


def _as_format_2(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("DROP TABLE second_vectors")
        connection.execute("ALTER TABLE vectors DROP COLUMN checksum")
        schema.put_meta(connection, "format", 2)


def _format(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0])


def test_a_file_of_format_2_is_read_and_brought_up_to_date_by_a_write(database: Database, tmp_path: Path) -> None:
    made(database)
    database.close()
    file = tmp_path / "collections" / "c" / schema.FILE_NAME
    _as_format_2(file)
    again = Database(tmp_path)
    docs = again.open("c")
    assert docs.query(vector=embed("a", "r2 version 0"), top_k=1).matches[0].id == "r2"
    assert len(docs.fetch(["r1", "r2"])) == 2
    assert docs.shadow.stats() is None
    docs.snapshot("old")
    assert _format(file) == 2
    docs.upsert([record("a", "new", 0)])
    assert _format(file) == 3
    schema.open_existing(file)[0].close()           # its table of tables is that of a new file
    build(docs, "b")
    docs.shadow.swap()
    assert docs.query(vector=embed("b", "r2 version 0"), top_k=1).matches[0].id == "r2"
    docs = again.restore("c", "old")
    assert (_format(file), docs.dim, docs.stats().records) == (2, 5, 40)
    again.close()
    done = salvage(tmp_path / "collections" / "c", tmp_path / "rescued")
    assert (done.records, done.lost) == (40, [])


def test_what_is_refused(database: Database) -> None:
    docs = made(database)
    for call in (docs.shadow.drop, docs.shadow.swap, docs.shadow.lacking, lambda: docs.shadow.query(text="x")):
        with pytest.raises(NotFound, match=r"collection 'c' has no shadow\. Make one with: madang collection reembed c"):
            call()
    for dim in (0, True, 3.0, 20_001):
        with pytest.raises(InvalidInput, match="dim must be a whole number"):
            docs.shadow.begin(dim, "b")     # type: ignore[arg-type]
    docs.shadow.begin(9, "b")
    rows = [each.row for each in docs.shadow.lacking(3)]
    for wrong in ([[1.0] * 9] * 2, [[1.0] * 8] * 3, [[float("nan")] * 9] * 3):
        with pytest.raises((InvalidInput, ValueError)):
            docs.shadow.put(rows, wrong)
    assert docs.shadow.put([*rows, 9999], [[1.0] * 9] * 4) == 3     # a row that is gone by now
    assert docs.shadow.put(rows, [[2.0] * 9] * 3) == 0              # rows that have one
    stats = docs.shadow.stats()
    assert stats is not None
    assert stats.records == 3


def test_questions_are_kept_as_texts_too(tmp_path: Path) -> None:
    database = Database(tmp_path)
    docs = made(database)
    docs.query(vector=embed("a", "q"), text="where is the key")
    docs.query(text="where is the key")
    docs.query(text="only words")
    docs.query(text="x" * 5000)
    assert docs.questions() == ["where is the key", "only words"]
    build(docs, "b")
    docs.shadow.query(text="of a comparison")
    docs.shadow.swap()
    database.close()
    database = Database(tmp_path)
    docs = database.open("c")
    assert docs.questions() == ["where is the key", "only words"]
    for n in range(30):
        docs.query(vector=embed("b", f"q{n}"))
    assert docs.audit().asked == 30         # of this model only
    docs.forget_queries()
    assert docs.questions() == []
    private = database.create("private", 5, keep_queries=False)
    private.query(text="a secret")
    assert private.questions() == []
    database.close()
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.rglob("queries.bin"))
