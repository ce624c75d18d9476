"""One server for the tests of a file; each makes indexes of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest

import madang
from madang.serve.run import serving
from madang.workspace import Workspace

Made = Callable[..., str]
_numbers = count()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, str]]:
    with madang.open(tmp_path_factory.mktemp("served") / "ws") as workspace, serving(workspace) as address:
        yield workspace, address


@pytest.fixture(scope="module")
def pinecone(served: tuple[Workspace, str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served[1], timeout=30, headers={"X-Pinecone-Api-Version": "2025-10", "Api-Key": "any"}) as client:
        yield client


@pytest.fixture
def made(pinecone: httpx.Client) -> Made:
    """Make an index; gives the path of its data plane."""
    def make(metric: str = "cosine", dim: int | None = 3, **more: Any) -> str:
        name = f"t{next(_numbers)}"
        body = {"name": name, "metric": metric, "dimension": dim, "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}}}
        reply = pinecone.post("/indexes", json={**body, **more})
        assert reply.status_code == 201, reply.text
        return f"/i/{name}"

    return make


def said(reply: httpx.Response, status: int) -> str:
    """What a refusal says, in the form that clients read."""
    assert reply.status_code == status, reply.text
    answer = reply.json()
    assert set(answer) == {"error", "status"}
    assert answer["status"] == status
    message: str = answer["error"]["message"]
    assert "\n" not in message
    assert "Traceback" not in message
    return message
