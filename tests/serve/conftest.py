"""A server beside the test, and a client of plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import madang
from madang.serve.run import serving
from madang.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with madang.open(tmp_path / "ws") as ws:
        yield ws


@pytest.fixture
def address(workspace: Workspace) -> Iterator[str]:
    with serving(workspace) as address:
        yield address


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
