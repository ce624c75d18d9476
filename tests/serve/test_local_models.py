"""A caller's name of a model is never a folder of this machine, nor a download."""

from __future__ import annotations

import sys

import httpx
import pytest

NAMES = ["sentence_transformers//etc", "transformers/./secret", "diffusers/someone/large", "transformers/gpt2"]


@pytest.fixture(autouse=True)
def _never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading one would fail otherwise than a name that nobody knows."""
    for name in ("sentence_transformers", "transformers", "diffusers"):
        monkeypatch.setitem(sys.modules, f"madang.models.providers.{name}", None)


@pytest.mark.parametrize("name", NAMES)
def test_by_every_door(http: httpx.Client, name: str) -> None:
    asked = [
        ("/v1/embeddings", {"model": name, "input": "a"}),
        ("/v1/chat/completions", {"model": name, "messages": [{"role": "user", "content": "a"}]}),
        ("/v1/images/generations", {"model": name, "prompt": "a"}),
        ("/embed", {"model": name, "inputs": [{"text": "a"}], "parameters": {"input_type": "query"}}),
        ("/rerank", {"model": name, "query": "a", "documents": [{"text": "b"}]}),
        ("/indexes/create-for-model", {"name": "x", "cloud": "aws", "region": "us-east-1",
                                       "embed": {"model": name, "field_map": {"text": "text"}}}),
    ]
    for path, body in asked:
        refused = http.post(path, json=body)
        assert refused.status_code in (400, 404), (path, refused.text)
        assert "offered" in refused.text or "not exist" in refused.text or "not found" in refused.text, (path, refused.text)
        assert "pip install" not in refused.text
