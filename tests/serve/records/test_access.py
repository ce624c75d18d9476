"""Keys: text goes in and comes out only where a key allows it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from madang.serve.access import Access, Identity
from madang.serve.app import App
from madang.workspace import Workspace
from tests.serve.records.conftest import Make

IDENTITIES = {"reader": Identity("read"), "writer": Identity("write", frozenset({"ns"})), "": Identity("admin")}


class Keys(Access):
    """A key of each kind."""

    def identify(self, key: str) -> Identity:
        return IDENTITIES[key]


def status(workspace: Workspace, key: str, path: str, **body: Any) -> int:
    async def ask() -> int:
        app = App(workspace, Keys())
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
                return (await client.post(path, headers={"Api-Key": key}, **body)).status_code
        finally:
            app.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(("key", "namespace", "writes", "reads"), [
    ("reader", "ns", 403, 200), ("reader", "other", 403, 200), ("writer", "ns", 201, 200), ("writer", "other", 403, 403),
    ("writer", "__default__", 403, 403), ("", "other", 201, 200)])
def test_what_a_key_allows(workspace: Workspace, embedding: Make, documents: Make, key: str, namespace: str, writes: int,
                           reads: int) -> None:
    embedding(dim=384)
    assert status(workspace, key, "/embed", json={"model": "pinecone-sparse-english-v0", "inputs": ["x"]}) == 200
    documents({"body": {"type": "string", "full_text_search": {}}})
    records, docs = f"/i/im/records/namespaces/{namespace}", f"/i/doc/namespaces/{namespace}/documents"
    changes = 403 if writes == 403 else 200
    clause = {"type": "text", "query": "x", "fields": ["body"]}
    assert status(workspace, key, f"{records}/upsert", content=b'{"_id": "a", "chunk_text": "x"}') == writes
    assert status(workspace, key, f"{docs}/upsert", json={"documents": [{"_id": "a", "body": "x"}]}) == changes
    for name, body in (("update", {"documents": [{"_id": "a", "n": 1}]}), ("delete", {"ids": ["a"]})):
        assert status(workspace, key, f"{docs}/{name}", json=body) == changes
    assert status(workspace, key, f"{records}/search", json={"query": {"top_k": 1, "inputs": {"text": "x"}}}) == reads
    for name, body in (("search", {"score_by": [clause], "top_k": 1}), ("fetch", {"ids": ["a"]}), ("list", {})):
        assert status(workspace, key, f"{docs}/{name}", json=body) == reads
