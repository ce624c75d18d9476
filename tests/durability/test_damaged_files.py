"""Files that rot. What is derived is noticed and made again."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from madang.index import HNSW
from madang.store import Database
from tests.durability.operations import DIM, vector_of

RECORDS = 1200         # a graph begins with 256
FLIPS = 40


def _fill(directory: Path, count: int = RECORDS) -> None:
    database = Database(directory)
    docs = database.create("docs", DIM, index=HNSW(m=8, ef_construction=40))
    docs.upsert([{"id": f"r{n}", "values": vector_of("filled", n), "metadata": {"n": n}} for n in range(count)])
    docs.delete(filter={"n": {"$lt": 20}})
    docs.wait_until_indexed()
    database.close()


def _answers(directory: Path) -> list[list[tuple[str, float]]]:
    """What a fresh process would answer; it may heal the files."""
    database = Database(directory)
    docs = database.open("docs")
    found = [docs.query(vector=vector_of("asked", n), top_k=5).matches for n in range(8)]
    assert docs.query(vector=vector_of("filled", RECORDS - 1), top_k=1).matches[0].id == f"r{RECORDS - 1}"
    database.close()
    return [[(match.id, match.score) for match in matches] for matches in found]


def _derived(directory: Path) -> list[Path]:
    """Every file of the collection but the truth."""
    files = [path for path in (directory / "collections" / "docs").iterdir() if not path.name.startswith("records.db")]
    return sorted(path for path in files if path.is_file())


def _damages(content: bytes, generator: random.Random) -> Iterator[tuple[str, bytes | None]]:
    yield "missing", None
    for size in {0, 1, generator.randrange(len(content)), len(content) - 1}:
        yield f"cut to {size} bytes", content[:size]
    yield "a byte longer", content + b"\0"
    for place in [*range(0, min(32, len(content)), 4), *(generator.randrange(len(content)) for _ in range(FLIPS))]:
        bit = 1 << generator.randrange(8)
        yield f"byte {place} xor {bit}", content[:place] + bytes([content[place] ^ bit]) + content[place + 1:]


def test_a_damaged_derived_file_changes_no_answer(tmp_path: Path) -> None:
    good, bad, generator = tmp_path / "good", tmp_path / "bad", random.Random(4)
    _fill(good)
    shutil.copytree(good, bad)
    for path in _derived(bad):
        path.unlink()
    fresh = _answers(bad)
    assert len(_derived(good)) >= 2
    for path in _derived(good):
        for what, content in _damages(path.read_bytes(), generator):
            shutil.rmtree(bad)
            shutil.copytree(good, bad)
            there = bad / path.relative_to(good)
            if content is None:
                there.unlink()
            else:
                there.write_bytes(content)
            assert _answers(bad) == fresh, f"{path.name}: {what}"


def _swap(one: Path, two: Path, keep: str) -> None:
    """The files of `one` whose names begin with `keep`, the others of `two`."""
    for path in (two / "collections" / "docs").iterdir():
        if path.name.startswith(keep):
            path.unlink()
    for path in (one / "collections" / "docs").iterdir():
        if path.name.startswith(keep):
            shutil.copy(path, two / "collections" / "docs")


@pytest.mark.parametrize("older", ["index", "records.db"])
def test_files_of_two_times_are_told_apart(tmp_path: Path, older: str) -> None:
    """An older graph beside the records is brought up to date; a newer one is not of these records."""
    now, before = tmp_path / "now", tmp_path / "before"
    _fill(before)
    shutil.copytree(before, now)
    _write_more(now, 50, "later")
    _swap(before, now, older)
    _write_more(now, 60, "again")
    healed = _answers(now)
    for path in _derived(now):
        path.unlink()
    for mine, theirs in zip(healed, _answers(now), strict=True):
        assert [identity for identity, _ in mine] == [identity for identity, _ in theirs]
        # Which records are in the graph, whose vectors are rounded, depends on where its blocks were cut.
        assert [score for _, score in mine] == pytest.approx([score for _, score in theirs], abs=5e-4)


def _write_more(directory: Path, count: int, name: str) -> None:
    database = Database(directory)
    docs: Any = database.open("docs")
    docs.upsert([{"id": f"{name}{n}", "values": vector_of(name, n), "metadata": {"n": 100}} for n in range(count)])
    docs.wait_until_indexed()
    database.close()
