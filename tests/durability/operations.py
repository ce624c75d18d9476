"""What the worker does to a database, as a table: how an operation is drawn, run, and what it means to the model.

Everything an operation writes follows from its arguments, so a line of text is enough to know what must be on disk.
An operation names one collection and one namespace, its place, and changes nothing else. A namespace and the
collection `extra-...` belong to one thread, so the order between threads does not matter.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.base.records import Record
from madang.index import HNSW, Flat
from madang.store import Collection, Database

DIM = 8
MODELS = {"one": DIM, "two": DIM + 4}       # which a collection may be embedded with, and the dimension of each
Numbers = np.ndarray[Any, np.dtype[np.float32]]
POOL = [f"r{number:03d}" for number in range(120)]
Arguments = dict[str, Any]
T = TypeVar("T")


class Content(NamedTuple):
    """What the model knows of a record: the operation its vector is from, and its metadata."""

    vector: int
    metadata: dict[str, int]


State = dict[str, dict[str, dict[str, Content]]]  # collection -> namespace -> id -> content


def vector_of(identity: str, version: int, model: str = "one") -> Numbers:
    """(dim,) numbers that no other record, no other version and no other model has."""
    seed = [zlib.crc32(identity.encode()), version, *([] if model == "one" else [2])]
    return np.random.default_rng(seed).standard_normal(MODELS[model]).astype(np.float32)


def embed(record: Record, model: str) -> Numbers:
    """The vector that a model makes of a stored record, which tells what it was made from."""
    version = record.metadata.get("vector", record.metadata["batch"])
    assert isinstance(version, int)
    return vector_of(record.id, version, model)


def record_of(identity: str, content: Content, model: str) -> dict[str, Any]:
    """The whole record, as it is upserted and as it must come back."""
    batch = content.metadata["batch"]
    return {"id": identity, "values": vector_of(identity, content.vector, model), "metadata": content.metadata,
            "document": f"batch{batch} {identity} " + "some words to fill the page " * (batch % 7)}


def contents(arguments: Arguments) -> dict[str, Content]:
    """The records of one upsert; all bear its version, so half of a batch would be seen."""
    version = arguments["version"]
    return {identity: Content(version, {"batch": version, "kind": (version + number) % 5})
            for number, identity in enumerate(arguments["ids"])}


@dataclass(frozen=True)
class Operation:
    """`draw` makes arguments, `run` does it, `apply` does it to the model. `weight`: how often it is drawn."""

    weight: int
    draw: Callable[[random.Random], Arguments]
    run: Callable[[Database, Arguments], object]
    apply: Callable[[State, Arguments], None] = lambda state, arguments: None


def _some_ids(generator: random.Random) -> Arguments:
    most = generator.choice([1, 1, 8, 60])
    return {"ids": generator.sample(POOL, generator.randint(1, most))}


def _embedded(collection: Collection, do: Callable[[str], T]) -> T:
    """Do it with vectors of the model that is searched; again, where another thread went over to the other one."""
    while True:
        model = collection.embedder or ""
        try:
            return do(model)
        except InvalidInput:
            if collection.embedder == model:
                raise


def _upsert(database: Database, a: Arguments) -> None:
    docs = database.open(a["collection"])
    _embedded(docs, lambda model: docs.upsert([record_of(*item, model) for item in contents(a).items()],
                                              a["namespace"]))


def _apply_upsert(state: State, a: Arguments) -> None:
    _space(state, a).update(contents(a))


def _draw_update(generator: random.Random) -> Arguments:
    return {"ids": [generator.choice(POOL)], "vector": generator.random() < 0.5}


def _update(database: Database, a: Arguments) -> None:
    (identity,) = a["ids"]
    docs, version, told = database.open(a["collection"]), a["version"], {"touched": a["version"]}
    if a["vector"]:
        _embedded(docs, lambda model: docs.update(identity, vector_of(identity, version, model),
                                                  {**told, "vector": version}, a["namespace"]))
    else:
        docs.update(identity, None, told, a["namespace"])


def _apply_update(state: State, a: Arguments) -> None:
    (identity,) = a["ids"]
    space = _space(state, a)
    if identity in space:
        old = space[identity]
        told = {"touched": a["version"]}
        if a["vector"]:
            space[identity] = Content(a["version"], {**old.metadata, **told, "vector": a["version"]})
        else:
            space[identity] = Content(old.vector, {**old.metadata, **told})


def _delete(database: Database, a: Arguments) -> None:
    database.open(a["collection"]).delete(ids=a["ids"], namespace=a["namespace"])


def _apply_delete(state: State, a: Arguments) -> None:
    for identity in a["ids"]:
        _space(state, a).pop(identity, None)


def _delete_kind(database: Database, a: Arguments) -> None:
    database.open(a["collection"]).delete(filter={"kind": a["kind"]}, namespace=a["namespace"])


def _apply_delete_kind(state: State, a: Arguments) -> None:
    space = _space(state, a)
    for identity in [i for i, content in space.items() if content.metadata["kind"] == a["kind"]]:
        del space[identity]


def _clear(database: Database, a: Arguments) -> None:
    database.open(a["collection"]).delete(delete_all=True, namespace=a["namespace"])


def _apply_clear(state: State, a: Arguments) -> None:
    _space(state, a).clear()


def _compact(database: Database, a: Arguments) -> None:
    collection = database.open(a["collection"])
    with collection._writing, collection._reporting():      # as `schema.compact` does, which would not for so few
        collection._db.execute("VACUUM")


def _query(database: Database, a: Arguments) -> None:
    docs = database.open(a["collection"])
    found = _embedded(docs, lambda model: docs.query(vector=vector_of("any", a["version"], model), top_k=5,
                                                     namespace=a["namespace"], filter={"kind": {"$lt": 4}}))
    scores = [match.score for match in found.matches]
    assert scores == sorted(scores, reverse=True)
    assert all(match.metadata is not None and match.metadata["kind"] < 4 for match in found.matches)  # type: ignore[operator]


def create(database: Database, a: Arguments) -> None:
    """Also what the worker begins with."""
    index = HNSW(m=8, ef_construction=40) if a["collection"] != "exact" else None
    database.create(a["collection"], DIM, index=index, embedder="one")


def _apply_create(state: State, a: Arguments) -> None:
    state.setdefault(a["collection"], {})


def _drop(database: Database, a: Arguments) -> None:
    database.drop(a["collection"])


def _apply_drop(state: State, a: Arguments) -> None:
    state.pop(a["collection"], None)


def _reembed(database: Database, a: Arguments) -> None:
    """Go on with the vectors of the other model, or begin with them."""
    docs = database.open(a["collection"])
    with docs.shadow.working():
        model = "two" if docs.embedder == "one" else "one"
        docs.shadow.begin(MODELS[model], model)
        for _ in range(a["batches"]):
            lacking = docs.shadow.lacking(40)
            docs.shadow.put([each.row for each in lacking],
                            np.array([embed(each.record, model) for each in lacking]).reshape(-1, MODELS[model]))


def _turn(database: Database, a: Arguments) -> None:
    """Over to the other model, or back."""
    docs = database.open(a["collection"])
    with docs.shadow.working():
        model = "two" if docs.embedder == "one" else "one"
        docs.shadow.swap(lambda records: [embed(record, model) for record in records])


def _forget(database: Database, a: Arguments) -> None:
    database.open(a["collection"]).shadow.drop()


def _set_index(database: Database, a: Arguments) -> None:
    database.open(a["collection"]).set_index(HNSW(m=8, ef_construction=40) if a["graph"] else Flat())


def _snapshot(database: Database, a: Arguments) -> None:
    docs, name = database.open(a["collection"]), a["namespace"]
    if name in [snapshot.name for snapshot in docs.snapshots()]:
        docs.delete_snapshot(name)
    docs.snapshot(name)


def _space(state: State, a: Arguments) -> dict[str, Content]:
    """The place of an operation; where the collection is missing, one that nobody sees: the operation was refused."""
    return state.get(a["collection"], {}).setdefault(a["namespace"], {})


OPERATIONS: dict[str, Operation] = {
    "upsert": Operation(10, _some_ids, _upsert, _apply_upsert),
    "update": Operation(5, _draw_update, _update, _apply_update),
    "delete": Operation(3, _some_ids, _delete, _apply_delete),
    "delete_kind": Operation(2, lambda generator: {"kind": generator.randrange(5)}, _delete_kind, _apply_delete_kind),
    "clear": Operation(1, lambda generator: {}, _clear, _apply_clear),
    "compact": Operation(1, lambda generator: {}, _compact),
    "query": Operation(4, lambda generator: {}, _query),
    "create": Operation(1, lambda generator: {"extra": True}, create, _apply_create),
    "drop": Operation(1, lambda generator: {"extra": True}, _drop, _apply_drop),
    "reembed": Operation(3, lambda generator: {"batches": generator.randint(0, 8)}, _reembed),
    "turn": Operation(2, lambda generator: {}, _turn),
    "forget": Operation(1, lambda generator: {}, _forget),
    "set_index": Operation(1, lambda generator: {"graph": generator.random() < 0.5}, _set_index),
    "snapshot": Operation(1, lambda generator: {}, _snapshot),
}


def draw(generator: random.Random, thread: int, version: int) -> Arguments:
    """The next operation of a thread, ready to be printed and run."""
    name = generator.choices(list(OPERATIONS), [operation.weight for operation in OPERATIONS.values()])[0]
    arguments = OPERATIONS[name].draw(generator)
    extra = arguments.pop("extra", False) or generator.random() < 0.2
    collection = f"extra-{thread}" if extra else generator.choice(["exact", "graph"])
    return {"do": name, "collection": collection, "namespace": f"t{thread}", "version": version, **arguments}


def run(database: Database, arguments: Arguments) -> None:
    """Do it. What is refused because a collection or record is (not) there changes nothing, in the model too."""
    with suppress(NotFound, Conflict):
        OPERATIONS[arguments["do"]].run(database, arguments)


def apply(state: State, arguments: Arguments) -> None:
    """Do it to the model."""
    OPERATIONS[arguments["do"]].apply(state, arguments)
