from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from madang.store import Collection, Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    db = Database(tmp_path)
    yield db
    db.close()


@pytest.fixture
def docs(database: Database) -> Collection:
    return database.create("docs", 3)
