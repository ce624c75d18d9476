"""What must be in a database, from the worker's lines, and whether it is."""

from __future__ import annotations

import copy
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from madang.base.records import Record
from madang.store import Collection, Database
from madang.store.schema import VECTORS
from tests.durability import operations
from tests.durability.operations import Arguments, Content, State

Records = dict[str, dict[str, Any]]


class Oracle:
    """The model after all acknowledged operations, and the operations that were under way."""

    def __init__(self) -> None:
        self.state: State = {}
        self.under_way: dict[int, Arguments] = {}
        self.turned = self.beside = 0       # collections found with the second model, and vectors of the other one

    def hear(self, lines: Iterable[str]) -> None:
        """Follow the worker. A line that was cut short was not said."""
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "begin":
                arguments = json.loads(rest)
                self.under_way[arguments["version"]] = arguments
            elif word == "done":
                operations.apply(self.state, self.under_way.pop(int(rest)))
            elif word == "refused":  # it raised, and said that nothing was changed
                del self.under_way[int(rest)]

    def check(self, directory: Path) -> None:
        """Open the database and compare it with the model."""
        database = Database(directory)
        try:
            self.compare(database)
            for name in self.state:
                _check_file(directory / "collections" / name / "records.db")
        finally:
            database.close()

    def compare(self, database: Database) -> None:
        """Compare; then what was under way is known to have happened or not."""
        for arguments in self.under_way.values():
            after = copy.deepcopy(self.state)
            operations.apply(after, arguments)
            if _place(database, arguments) == _expected(after, arguments["collection"], arguments["namespace"],
                                                        _model(database, arguments["collection"])):
                self.state = after
        self.under_way.clear()
        lost, unknown = self.state.keys() - set(database.names()), set(database.names()) - self.state.keys()
        assert not lost, f"collections acknowledged but lost: {sorted(lost)}"
        assert not unknown, f"collections dropped or never acknowledged, but there: {sorted(unknown)}"
        for name, spaces in self.state.items():
            collection = database.open(name)
            for namespace in {*spaces, *collection.stats().namespaces}:
                self._check_namespace(collection, namespace)
            self.turned += collection.embedder == "two"
            self.beside += _check_shadow(database._directory / name / "records.db")

    def _check_namespace(self, collection: Collection, namespace: str) -> None:
        expected = _expected(self.state, collection.name, namespace, collection.embedder or "") or {}
        stored = _stored(collection, namespace)
        missing, unknown = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
        where = f"{collection.name}/{namespace}"
        assert not missing, f"{where}: acknowledged but lost: {missing}"
        assert not unknown, f"{where}: deleted or never acknowledged, but there: {unknown}"
        different = {i: (stored[i], expected[i]) for i in expected if stored[i] != expected[i]}
        assert not different, f"{where}: other than acknowledged: {different}"
        for identity, content in (self.state[collection.name].get(namespace) or {}).items():
            _check_found(collection, namespace, identity, content)


def _place(database: Database, arguments: Arguments) -> Records | None:
    if arguments["collection"] not in database.names():
        return None
    return _stored(database.open(arguments["collection"]), arguments["namespace"])


def _check_found(collection: Collection, namespace: str, identity: str, content: Content) -> None:
    """A record is its own nearest neighbour, and found by the word that names its batch."""
    vector = operations.vector_of(identity, content.vector, collection.embedder or "")
    found = collection.query(vector=vector, top_k=1, namespace=namespace).matches
    assert [match.id for match in found] == [identity], f"{collection.name}/{namespace}: {identity} is not found"
    if content.vector == content.metadata["batch"]:  # once a batch or so
        words = collection.query(text=f"batch{content.metadata['batch']}", top_k=100, namespace=namespace).matches
        assert identity in [match.id for match in words]


def _model(database: Database, collection: str) -> str:
    return (database.open(collection).embedder or "") if collection in database.names() else ""


def _expected(state: State, collection: str, namespace: str, model: str) -> Records | None:
    if collection not in state:
        return None
    records = (operations.record_of(*item, model or "one") for item in state[collection].get(namespace, {}).items())
    return {record["id"]: _comparable(**record) for record in records}


def _stored(collection: Collection, namespace: str) -> Records:
    ids = collection.list_ids(limit=10_000, namespace=namespace).ids
    return {identity: _comparable(record.id, record.values, record.metadata, record.document)
            for identity, record in collection.fetch(ids, namespace).items()}


def _comparable(id: str, values: Any, metadata: Any, document: str | None) -> dict[str, Any]:  # noqa: A002
    return {"id": id, "values": np.asarray(values, dtype=np.float32).tolist(), "metadata": dict(metadata),
            "document": document}


def _check_shadow(path: Path) -> int:
    """Whether the vectors beside those that are searched are of records, and right. How many there are."""
    with closing(sqlite3.connect(path)) as connection:
        meta = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM meta")}
        other = VECTORS[1 - meta.get("table", 0)]
        found = connection.execute(f"SELECT r.id, r.metadata, v.data FROM {other} v LEFT JOIN records r USING (row)")
        rows = found.fetchall()
    assert not rows or meta["shadow"]
    for identity, metadata, data in rows:
        record = Record(identity, metadata=json.loads(metadata))
        assert np.array_equal(np.frombuffer(data, "<f4"), operations.embed(record, meta["shadow"]["embedder"]))
    return len(rows)


def _check_file(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (live,) = connection.execute("SELECT COALESCE((SELECT value FROM meta WHERE key = 'table'), 0)").fetchone()
        for table in (VECTORS[int(live)], "postings"):
            odd = f"SELECT (SELECT COUNT(*) FROM records) - (SELECT COUNT(*) FROM {table})"
            assert connection.execute(odd).fetchone() == (0,), f"{path}: records and {table} differ in number"
    finally:
        connection.close()
