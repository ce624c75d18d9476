"""Embeddings over plain HTTP."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from madang.serve.openai_tokens import FILE_NAME, decoded, place, read
from madang.workspace import Workspace
from tests.models.service_stub import embeddings
from tests.serve.openai.proxied import proxied


def embed(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post("/v1/embeddings", json={"model": "text-embedding-3-small", "input": "a dog", **body})


def vectors(said: httpx.Response) -> np.ndarray:
    return np.array([item["embedding"] for item in said.json()["data"]], np.float32)


def test_they_are_the_models_own_with_zeros_behind(workspace: Workspace, http: httpx.Client) -> None:
    said = embed(http, input=["a dog", "고양이"])
    assert said.json()["model"] == "bundled/minilm"
    assert [item["index"] for item in said.json()["data"]] == [0, 1]
    found = vectors(said)
    own = workspace.models.embedder("bundled/minilm").embed(["a dog", "고양이"])
    assert found.shape == (2, 1536)
    assert np.array_equal(found[:, :384], own)
    assert not found[:, 384:].any()


def test_base64_says_the_same(http: httpx.Client) -> None:
    coded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in embed(http, encoding_format="base64").json()["data"]]
    assert np.array_equal(np.array(coded), vectors(embed(http)))


def test_dimensions(http: httpx.Client) -> None:
    assert vectors(embed(http, dimensions=100)).shape == (1, 100)
    assert np.isclose(np.linalg.norm(vectors(embed(http, dimensions=100))), 1)
    assert vectors(embed(http, model="bundled/minilm")).shape == (1, 384)
    assert vectors(embed(http, model="text-embedding-3-large")).shape == (1, 3072)
    refused = embed(http, dimensions=4000)
    assert (refused.status_code, "1 to 1,536" in refused.text) == (400, True)


@pytest.mark.parametrize(("body", "code"), [
    ({"input": ""}, "invalid_value"), ({"input": ["a", ""]}, "invalid_value"), ({"input": []}, "invalid_value"),
    ({"input": None}, "missing_required_parameter"), ({"input": [["a"]]}, "invalid_type"), ({"input": [1, "a"]}, "invalid_type"),
    ({"input": 3}, "invalid_type"), ({"input": ["a"] * 2049}, "array_above_max_length"), ({"encoding_format": "hex"}, "invalid_value"),
    ({"dimensions": 0}, "invalid_value"),
])
def test_what_is_wrong_is_named(http: httpx.Client, body: dict[str, Any], code: str) -> None:
    refused = embed(http, **body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, code)


def test_tokens_need_the_table_they_were_made_with(http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for given in ([64, 5679], [[64, 5679]]):
        refused = embed(http, input=given)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_tokens")
        assert "TIKTOKEN_CACHE_DIR" in refused.json()["error"]["message"]
    (tmp_path / FILE_NAME).write_bytes(b"YQ== 64\n")           # anybody's file is not taken for it
    assert embed(http, input=[64]).status_code == 400


def test_tokens_are_decoded(tmp_path: Path) -> None:
    assert place({"TIKTOKEN_CACHE_DIR": "/c"}) == Path("/c") / FILE_NAME
    assert FILE_NAME == "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"      # as tiktoken calls it
    tokens = [b"a", b" dog", "개".encode()[:1], "개".encode()[1:]]
    content = b"".join(base64.b64encode(token) + f" {number}\n".encode() for number, token in enumerate(tokens))
    (tmp_path / "table").write_bytes(content)
    table = read(tmp_path / "table", hashlib.sha256(content).hexdigest())
    assert decoded([0, 1, 2, 3], table) == "a dog개"
    with pytest.raises(KeyError):
        decoded([4], table)
    with pytest.raises(ValueError, match="not the table"):
        read(tmp_path / "table")


def test_a_services_embeddings(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws") as (stub, http):
        stub.script("/v1/embeddings", embeddings([[3.0, 4.0]]))
        said = embed(http, dimensions=4)
        assert vectors(said).tolist() == [[np.float32(0.6), np.float32(0.8), 0, 0]]
        assert said.json()["model"] == "local/vectors"
