"""These tests need other libraries, and fail without them: `make integrations` installs and runs them apart. None of the
libraries may report anything to anybody."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

os.environ.update({"HAYSTACK_TELEMETRY_ENABLED": "False", "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false",
                   "ANONYMIZED_TELEMETRY": "False", "DO_NOT_TRACK": "1"})

import pytest

import madang
from madang.workspace import Workspace

NEEDS = {"test_langchain.py": ("langchain_tests", "langchain"), "test_haystack.py": ("haystack", "haystack"),
         "test_llama_index.py": ("llama_index", "llama-index")}


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> None:
    library, extra = NEEDS.get(module_path.name, (None, None))
    if library is not None and find_spec(library) is None:
        raise pytest.UsageError(f'{module_path.name} needs {library}: run `make integrations`, or install '
                                f'"madang[{extra}]".')


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with madang.open(tmp_path / "ws") as ws:
        yield ws
