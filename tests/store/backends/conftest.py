"""These tests need the engines' libraries, and fail without them: `make backends` installs and runs them apart."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.register_assert_rewrite("madang.testing.store_suite", "madang.testing.store_writing",
                               "madang.testing.store_searching", "madang.testing.store_cases")

NEEDS = {"test_qdrant.py": ("qdrant_client", "qdrant"), "test_milvus.py": ("pymilvus", "milvus"),
         "test_postgresql.py": ("psycopg", "postgresql")}


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    library, extra = NEEDS.get(module_path.name, (None, None))
    if library is not None and find_spec(library) is None:
        raise pytest.UsageError(f'{module_path.name} needs {library}: run `make backends`, or install "madang[{extra}]".')
