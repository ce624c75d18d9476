"""Inference over HTTP: embedding, reranking, and what models there are."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from madang.models.providers.bundled import BundledProvider
from madang.models.sparse import TermEmbedder, term_index
from madang.workspace import Workspace

MINILM = BundledProvider().embedder("minilm")


def embed(http: httpx.Client, model: str, *texts: str, **parameters: Any) -> Any:
    found = http.post("/embed", json={"model": model, "inputs": [{"text": text} for text in texts],
                                      "parameters": parameters})
    assert found.status_code == 200, found.text
    return found.json()


def refusal(found: httpx.Response) -> str:
    assert found.status_code in (400, 404), found.text
    assert found.json()["status"] == found.status_code
    return str(found.json()["error"]["message"])


def test_a_dense_model_has_the_width_its_name_promises(http: httpx.Client) -> None:
    found = embed(http, "multilingual-e5-large", "a cat", "two dogs", input_type="passage", truncate="END")
    assert (found["model"], found["vector_type"]) == ("bundled/minilm", "dense")     # who really answered
    vectors = np.array([each["values"] for each in found["data"]], np.float32)
    assert vectors.shape == (2, 1024)
    assert np.allclose(vectors[:, :384], MINILM.embed(["a cat", "two dogs"]), atol=1e-6)
    assert not vectors[:, 384:].any()
    assert found["usage"] == {"total_tokens": 8}         # [CLS] a cat [SEP], [CLS] two dogs [SEP]
    assert len(embed(http, "llama-text-embed-v2", "x", dimension=384)["data"][0]["values"]) == 384


def test_long_texts_are_cut_as_asked(http: httpx.Client) -> None:
    long = "alpha " * 600 + "omega"
    model = "multilingual-e5-large"
    end, start = (embed(http, model, long, truncate=how)["data"][0]["values"][:384] for how in ("END", "START"))
    assert np.allclose(end, MINILM.embed([long])[0], atol=1e-6)
    assert not np.allclose(start, end, atol=1e-3)
    kept = "ha " + "alpha " * 252 + "omega"        # 254 tokens, the first of them half a word, and two around them
    assert np.allclose(start, MINILM.embed([kept])[0], atol=1e-6)
    refused = http.post("/embed", json={"model": model, "inputs": ["short", long], "parameters": {"truncate": "NONE"}})
    assert "inputs[1] has 60" in refusal(refused)


def test_a_sparse_model_weighs_terms(http: httpx.Client) -> None:
    found = embed(http, "pinecone-sparse-english-v0", "cats chase cats", "", input_type="passage", return_tokens=True)
    assert (found["model"], found["vector_type"]) == ("bundled/terms", "sparse")
    first, empty = found["data"]
    assert first["sparse_tokens"] == [t for _, t in sorted((term_index(t), t) for t in ("cat", "chase"))]
    assert first["sparse_indices"] == sorted(first["sparse_indices"])
    weights = dict(zip(first["sparse_tokens"], first["sparse_values"], strict=True))
    assert weights["cat"] > weights["chase"] > 0
    assert empty["sparse_indices"] == []
    korean = embed(http, "pinecone-sparse-english-v0", "연차는 며칠인가요?", input_type="query")["data"][0]
    passage = embed(http, "pinecone-sparse-english-v0", "연차가 남았다")["data"][0]
    assert set(korean["sparse_indices"]) & set(passage["sparse_indices"])       # particles do not hide a noun
    assert "sparse_tokens" not in korean


def test_bm25_saturates_and_knows_length() -> None:
    once, often, long = TermEmbedder().embed(["cat", "cat " * 50, "cat " + "dog " * 400])
    at = term_index("cat")
    values = [each.values[each.indices.index(at)] for each in (once, often, long)]
    assert values[2] < values[0] < values[1] < 2.2
    assert values[0] == pytest.approx(2.2 / (1 + 1.2 * (0.25 + 0.75 / 100)))


def test_reranking(http: httpx.Client) -> None:
    documents: list[Any] = [{"id": "a", "text": "The canteen opens at noon."},
                            {"id": "b", "text": "Staff get 25 vacation days."}, {"id": "c", "text": "A day has hours."}]
    body = {"model": "bge-reranker-v2-m3", "query": "How many vacation days?", "documents": documents}
    found = http.post("/rerank", json=body).json()
    assert found["model"] == "bundled/reranker"
    assert found["usage"] == {"rerank_units": 1}
    assert [each["document"] for each in found["data"]] == [documents[each["index"]] for each in found["data"]]
    scores = [each["score"] for each in found["data"]]
    assert found["data"][0]["index"] == 1
    assert scores == sorted(scores, reverse=True)
    few = http.post("/rerank", json={**body, "top_n": 1, "return_documents": False}).json()["data"]
    assert few == [{"index": 1, "score": scores[0]}]
    titled = [{"title": each["text"], "text": "nothing"} for each in documents]
    by_title = http.post("/rerank", json={**body, "documents": titled, "rank_fields": ["title"]}).json()["data"]
    assert [each["score"] for each in by_title] == scores
    plain = http.post("/rerank", json={**body, "documents": [each["text"] for each in documents]}).json()["data"]
    assert plain[0]["document"] == {"text": documents[1]["text"]}


def test_what_models_there_are(http: httpx.Client) -> None:
    models = {each["model"]: each for each in http.get("/models").json()["models"]}
    assert models["multilingual-e5-large"]["default_dimension"] == 1024
    assert {each["type"] for each in models.values()} == {"embed", "rerank"}
    assert [each["model"] for each in http.get("/models?vector_type=sparse").json()["models"]] == [
        "pinecone-sparse-english-v0"]
    assert all(each["type"] == "rerank" for each in http.get("/models?type=rerank").json()["models"])
    for name, told in models.items():
        assert http.get(f"/models/{name}").json() == told
    assert "model 'nope' is not known here" in refusal(http.get("/models/nope"))


@pytest.mark.parametrize(("path", "body", "said"), [
    ("/embed", {"model": "nope", "inputs": ["x"]}, "no model is called 'nope'"),
    ("/embed", {"model": "gpt-4o", "inputs": ["x"]}, "does not embed"),
    ("/embed", {"model": "bge-reranker-v2-m3", "inputs": ["x"]}, "does not embed"),
    ("/embed", {"model": "multilingual-e5-large", "inputs": []}, "1 to 96 texts"),
    ("/embed", {"model": "multilingual-e5-large", "inputs": ["x"] * 97}, "1 to 96 texts"),
    ("/embed", {"model": "multilingual-e5-large", "inputs": [{"text": 3}]}, "inputs[0].text"),
    ("/embed", {"model": "multilingual-e5-large", "inputs": ["x"], "parameters": {"input_type": "q"}}, "input_type"),
    ("/embed", {"model": "multilingual-e5-large", "inputs": ["x"], "parameters": {"dimension": 512}}, "1024"),
    ("/embed", [], "the body is no JSON object"),
    ("/rerank", {"model": "multilingual-e5-large", "query": "q", "documents": ["x"]}, "does not rerank"),
    ("/rerank", {"model": "pinecone-rerank-v0", "query": "q", "documents": [{"body": "x"}]}, "no text in field 'text'"),
    ("/rerank", {"model": "pinecone-rerank-v0", "query": "", "documents": ["x"]}, "query must be text"),
    ("/rerank", {"model": "pinecone-rerank-v0", "query": "q", "documents": ["x"], "top_n": 0}, "top_n"),
    ("/rerank", {"model": "pinecone-rerank-v0", "query": "q", "documents": []}, "1 to 1,000 documents"),
])
def test_what_is_wrong_is_named(http: httpx.Client, path: str, body: Any, said: str) -> None:
    assert said in refusal(http.post(path, json=body))


def test_settings_decide_who_answers(workspace: Workspace, http: httpx.Client) -> None:
    workspace.settings.aliases["multilingual-e5-large"] = "bundled/static"
    assert embed(http, "multilingual-e5-large", "x")["model"] == "bundled/static"
