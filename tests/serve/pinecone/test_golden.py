"""Every endpoint's answer in every version: the one that is kept, in the shape that the clients were recorded to accept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import madang
from madang.serve.run import serving
from tests.serve.pinecone.exchanges import GOLDEN, VERSIONS, answered, exchanges


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with madang.open(tmp_path / "ws") as workspace, serving(workspace) as address, httpx.Client(base_url=address) as client:
        yield client


def close(seen: Any, kept: Any) -> bool:
    """Equal, but for the rounding of scores, which depends on the processor."""
    if isinstance(kept, dict):
        return isinstance(seen, dict) and seen.keys() == kept.keys() and all(close(seen[key], kept[key]) for key in kept)
    if isinstance(kept, list):
        return isinstance(seen, list) and len(seen) == len(kept) and all(map(close, seen, kept))
    return type(seen) is type(kept) and (seen == pytest.approx(kept, abs=1e-6) if isinstance(kept, float) else seen == kept)


def lacks(seen: Any, accepted: Any, where: str = "") -> Iterator[str]:
    """What the accepted answer has and this one has not, or has as another type."""
    if isinstance(accepted, dict) and isinstance(seen, dict):
        if where.endswith((".vectors", ".namespaces", ".tags", ".metadata")):     # its keys are names, not the protocol's
            accepted = dict.fromkeys(seen, next(iter(accepted.values()), None))
        for key, value in accepted.items():
            if key == "metadata" and not value:
                continue
            if key not in seen:
                yield f"{where}.{key}"
            elif key != "metadata":
                optional = value
                if key in ("vectors", "namespaces") and isinstance(value, dict):
                    optional = {name: {part: item for part, item in entry.items() if part not in ("metadata", "sparseValues")}
                                for name, entry in value.items()}
                yield from lacks(seen[key], optional, f"{where}.{key}")
    elif isinstance(accepted, list) and isinstance(seen, list):
        if accepted and isinstance(accepted[0], dict):
            for entry in seen:
                yield from lacks(entry, accepted[0], f"{where}[]")
    elif accepted is not None and seen is not None and not where.endswith("record_count") and (
            isinstance(accepted, int | float) != isinstance(seen, int | float) or isinstance(accepted, str) != isinstance(seen, str)):
        yield f"{where}: {type(seen).__name__}"


@pytest.mark.parametrize("version", VERSIONS)
def test_answers(client: httpx.Client, version: str) -> None:
    kept = json.loads((GOLDEN / f"{version}.json").read_text(encoding="utf-8"))
    seen = answered(client, version)
    assert [each["call"] for each in seen] == [each["call"] for each in kept]
    for now, then, exchange in zip(seen, kept, exchanges(version), strict=True):
        assert close(now, then), f"{now}\n{then}"
        assert now["status"] == exchange.status, now
        assert list(lacks(now["answer"], exchange.accepted)) == [], now


def test_without_a_version_it_is_the_first(client: httpx.Client) -> None:
    """pinecone-client 3.2.2 sends no header."""
    body = {"name": "old", "dimension": 3, "metric": "cosine", "spec": {"serverless": {"cloud": "aws", "region": "us-west-2"}}}
    answers = [client.post("/indexes", json=body).json(), client.get("/indexes/old").json(),
               client.get("/indexes/old", headers={"X-Pinecone-Api-Version": "2024-07"}).json()]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["spec"] == {"serverless": {"cloud": "aws", "region": "us-west-2"}}
