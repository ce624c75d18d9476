"""A program whose disk is full again and again; it runs under `unsynced.c`, checks itself, and exits with 0 or not.

Each operation that is refused is compared with the model at once, on the disk that is still full, and done again when
there is space. Prints what the errors said.
"""

from __future__ import annotations

import ctypes
import json
import random
import sys
from pathlib import Path

from madang.base.errors import MadangError
from madang.store import Database
from tests.durability import operations
from tests.durability.oracle import Oracle

set_space = ctypes.CDLL(None).unsynced_space
set_space.argtypes = [ctypes.c_longlong]
UNLIMITED = -1


def refused(database: Database, arguments: operations.Arguments, space: int) -> MadangError | None:
    """Do it with so much space; the error, if it does not fit."""
    set_space(space)
    try:
        operations.run(database, arguments)
    except MadangError as error:
        return error
    return None


def opened(directory: Path) -> Database:
    """A database with all its collections open: SQLite needs a little space to open one, even for reading."""
    database = Database(directory)
    for name in database.names():
        database.open(name)
    return database


def query_a_graph_that_cannot_be_kept(database: Database) -> None:
    """A query may want to write the graph down; that there is no room for it is not the query's trouble."""
    graph = database.open("graph")
    graph.upsert([{"id": f"m{n}", "values": operations.vector_of("many", n)} for n in range(3000)], namespace="many")
    set_space(0)
    asked = operations.vector_of("many", 7)
    assert [match.id for match in graph.query(vector=asked, top_k=1, namespace="many").matches] == ["m7"]
    set_space(UNLIMITED)
    graph.delete(delete_all=True, namespace="many")


def main(directory: Path, seed: int, most: int) -> None:
    generator, oracle, database = random.Random(seed), Oracle(), Database(directory)
    for number in range(most):
        if number < 2:
            arguments = {"do": "create", "collection": ["exact", "graph"][number], "namespace": "t0", "version": number}
        else:
            arguments = operations.draw(generator, 0, number)
        oracle.hear(["begin " + json.dumps(arguments)])
        error = refused(database, arguments, generator.choice([0, 1, generator.randrange(300_000)]))
        if error is not None:
            print(f"{arguments['do']}: {type(error).__name__}: {error}", flush=True)
            oracle.hear([f"refused {number}"])
            oracle.compare(database)  # what was refused did not happen; and reading goes on
            oracle.hear(["begin " + json.dumps(arguments)])
            assert refused(database, arguments, UNLIMITED) is None
        oracle.hear([f"done {number}"])
        if number % 10 == 9:
            database.close()
            set_space(UNLIMITED)
            database = opened(directory)
    set_space(UNLIMITED)
    query_a_graph_that_cannot_be_kept(database)
    oracle.compare(database)
    database.close()
    oracle.check(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
