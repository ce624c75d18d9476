"""Indexes as the control plane makes them: collections with attributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from madang.store import Collection
from madang.workspace import Workspace

Make = Callable[..., Collection]


@pytest.fixture
def embedding(workspace: Workspace) -> Make:
    """An index that embeds the field chunk_text."""
    def make(name: str = "im", dim: int = 1024, metric: str = "cosine", model: str = "multilingual-e5-large",
             **more: Any) -> Collection:
        made = workspace.create_collection(name, dim, metric)
        made.set_attributes({"pinecone.embed": {"model": model, "field_map": {"text": "chunk_text"},
                                                "dimension": 1024, "metric": metric, **more}})
        return made

    return make


@pytest.fixture
def documents(workspace: Workspace) -> Make:
    """An index with a schema of 2026-07."""
    def make(fields: dict[str, Any], name: str = "doc") -> Collection:
        dense = [each for each in fields.values() if each["type"] == "dense_vector"]
        embed = [each["embed"] for each in fields.values() if each.get("embed") is not None]
        dim = dense[0]["dimension"] if dense else 1024 if embed else 1
        metric = dense[0]["metric"] if dense else embed[0].get("metric", "cosine") if embed else "dot"
        made = workspace.create_collection(name, dim, {"dotproduct": "dot"}.get(metric, metric))
        made.set_attributes({"pinecone.fields": fields,
                             "pinecone.vector_type": None if dense or embed else "sparse"})
        return made

    return make


def answered(found: httpx.Response, status: int = 200) -> Any:
    assert found.status_code == status, found.text
    return found.json() if found.content else None


def refusal(found: httpx.Response, status: int = 400) -> str:
    assert found.status_code == found.json()["status"] == status, found.text
    return str(found.json()["error"]["message"])
