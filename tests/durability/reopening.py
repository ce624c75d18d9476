"""A program that opens a collection on a full disk, then drops it and makes it anew; it ends as if killed.

The connection of the open that failed is forgotten only after that. It must not take the new collection's log along.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

from madang.base.errors import MadangError
from madang.store import Database
from tests.durability.filling import UNLIMITED, set_space


def main(directory: Path) -> None:
    if os.fork() == 0:
        Database(directory).create("docs", 3).upsert([{"id": "old", "values": [1, 0, 0]}])
        os._exit(0)  # killed: the log is not empty
    os.wait()
    database = Database(directory)
    set_space(0)
    try:
        database.open("docs")
    except MadangError as error:
        kept = [error]
    set_space(UNLIMITED)
    database.drop("docs")
    docs = database.create("docs", 3)
    docs.upsert([{"id": f"before{n}", "values": [1, 0, n]} for n in range(100)])
    kept.clear()
    gc.collect()
    docs.upsert([{"id": "after", "values": [1, 0, 0]}])
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
