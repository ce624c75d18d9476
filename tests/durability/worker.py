"""A program to be killed: works on one database from several threads and says on stdout what it does.

`begin {...}` before an operation, `done VERSION` after it has returned: acknowledged. `ready` when all threads work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import threading
import traceback
from pathlib import Path

from madang.store import Database, schema
from tests.durability import operations

EPOCH = 25  # operations of a thread after which all meet, and the database is closed and opened


def tell(line: str) -> None:
    """One line in one system call: whole or not there, however many threads speak."""
    os.write(1, line.encode() + b"\n")


def relax(synchronous: str) -> None:
    """Open databases with another `PRAGMA synchronous`, so that a test can see what it is there for."""
    connect = schema.connect

    def relaxed(path: Path, page: int | None = None) -> sqlite3.Connection:
        connection = connect(path, page)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return connection

    schema.connect = relaxed


class Worker:
    def __init__(self, directory: Path, seed: int, threads: int, most: int) -> None:
        self.directory, self.seed, self.most = directory, seed, most
        self.database = Database(directory)
        self.meeting = threading.Barrier(threads, action=self.reopen)
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(threads)]

    def reopen(self) -> None:
        self.database.close()
        self.database = Database(self.directory)

    def do(self, arguments: operations.Arguments) -> None:
        tell("begin " + json.dumps(arguments))
        operations.run(self.database, arguments)
        tell(f"done {arguments['version']}")

    def work(self, thread: int) -> None:
        generator = random.Random(f"{self.seed} {thread}")
        first = (self.seed * 100 + thread + 1) * 1_000_000
        try:
            for number in range(self.most):
                if number % EPOCH == EPOCH - 1:
                    self.meeting.wait()
                self.do(operations.draw(generator, thread, first + number))
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def run(self) -> None:
        for number, name in enumerate(("exact", "graph")):
            version = self.seed * 100_000_000 + number
            self.do({"do": "create", "collection": name, "namespace": "t0", "version": version})
        tell("ready")
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        self.database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=1_000_000, help="operations of each thread")
    given = parser.parse_args()
    if "DURABILITY_SYNCHRONOUS" in os.environ:
        relax(os.environ["DURABILITY_SYNCHRONOUS"])
    Worker(given.directory, given.seed, given.threads, given.most).run()
