"""Our own collection passes the suite that other engines' back-ends must pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest

from madang.store import Collection, Database
from madang.store.backends import Capabilities
from madang.testing.store_suite import Make, StoreSuite


class TestOwn(StoreSuite):
    capabilities: ClassVar[Capabilities] = Capabilities(text=True, sparse=True, sparse_query=True, sources=True,
                                                         target_recall=True, by_filter=True)

    @pytest.fixture
    def make(self, database: Database) -> Make:
        numbers = count()
        return lambda dim, metric: database.create(f"c{next(numbers)}", dim, metric)

    @pytest.fixture(autouse=True)
    def _files(self, database: Database, tmp_path: Path) -> Iterator[None]:
        self.database, self.again = database, Database(tmp_path)
        yield
        self.again.close()

    def drop(self, store: Collection) -> None:
        self.database.drop(store.name)

    def reopen(self, store: Collection) -> Any:
        return self.again.open(store.name)
