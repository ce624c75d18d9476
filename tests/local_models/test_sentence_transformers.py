"""Embedders and rerankers in this process, against the library called by hand and against each other."""

from __future__ import annotations

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import madang
from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound, ServiceError
from madang.base.settings import Local, Settings
from madang.models.protocol import Embedder, Reranker
from madang.models.providers import weights
from madang.models.providers.sentence_transformers import SentenceTransformersProvider
from madang.models.resolve import Models
from madang.models.tokens import CountsTokens
from tests.local_models import checkpoints

CPU = Local(device="cpu", batch=4)
TEXTS = ["the bicycle is kept in the cellar", "where is the coffee machine", "", "a", "how many days of vacation " * 20]


def provider(**settings: object) -> SentenceTransformersProvider:
    return SentenceTransformersProvider(Local(device="cpu", batch=4, **settings))   # type: ignore[arg-type]


def test_vectors_are_those_of_the_model_by_hand(plain_embedder_folder: Path) -> None:
    embedder = provider().embedder(str(plain_embedder_folder))
    assert isinstance(embedder, Embedder)
    assert isinstance(embedder, CountsTokens)
    done: list[int] = []
    found = embedder.embed(TEXTS * 9, progress=done.append)
    assert found.shape == (45, 16) and found.dtype == np.float32     # noqa: PT018
    assert sum(done) == 45 and len(done) == 2                        # noqa: PT018
    base = plain_embedder_folder
    tokenizer, model = AutoTokenizer.from_pretrained(base), _bert(base)
    for text, vector in zip(TEXTS, found, strict=False):
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            mean = model(**inputs).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert embedder.embed([]).shape == (0, 16)
    assert embedder.count_tokens(["the cellar", ""]) == [4, 2]
    assert embedder.count_tokens(TEXTS[-1:])[0] == 102               # more than the 32 that are read


def _bert(folder: Path) -> torch.nn.Module:
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder).eval()


def test_questions_and_documents_get_the_instructions_of_the_model(embedder_folder: Path, tmp_path: Path) -> None:
    embedder = provider().embedder(str(embedder_folder))
    plain_folder = shutil.copytree(embedder_folder, tmp_path / "plain")
    config = json.loads((plain_folder / "config_sentence_transformers.json").read_text())
    (plain_folder / "config_sentence_transformers.json").write_text(json.dumps(config | {"prompts": {}}))
    plain = provider().embedder(str(plain_folder))
    np.testing.assert_allclose(embedder.embed(["the cellar"], "query"), plain.embed(["query : the cellar"]), atol=1e-6)
    np.testing.assert_allclose(embedder.embed(["the cellar"]), plain.embed(["passage : the cellar"]), atol=1e-6)
    assert np.abs(embedder.embed(["the cellar"], "query") - embedder.embed(["the cellar"])).max() > 1e-3


def test_the_signature_follows_the_weights_and_not_the_place(embedder_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(embedder_folder, tmp_path / "copy")
    digest = weights.digest(embedder_folder)
    assert weights.digest(copy) == digest
    signature = provider().embedder(str(embedder_folder)).signature
    assert signature == f"sentence_transformers/{embedder_folder}@{digest[:12]}"
    (copy / "README.md").write_text("another card")
    assert weights.digest(copy) == digest
    other = checkpoints.save_embedder(tmp_path / "other", {"query": "query : ", "document": "passage : "}, seed=1)
    assert weights.digest(other) != digest
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert weights.digest(copy) != digest


def test_a_reranker_scores_as_the_model_by_hand(cross_encoder_folder: Path) -> None:
    reranker = provider().reranker(str(cross_encoder_folder))
    assert isinstance(reranker, Reranker)
    documents = [text for text in TEXTS if text]
    found = reranker.rerank("where is the bicycle", documents)
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(cross_encoder_folder)
    for document, score in zip(documents, found, strict=True):
        inputs = tokenizer("where is the bicycle", document, return_tensors="pt", truncation=True, max_length=64)
        with torch.no_grad():
            assert score == pytest.approx(torch.sigmoid(model(**inputs).logits)[0, 0].item(), abs=1e-5)
    assert reranker.rerank("a", []).shape == (0,)


def test_a_classifier_is_no_reranker(tmp_path: Path) -> None:
    folder = checkpoints.save_cross_encoder(tmp_path / "classes", labels=3)
    with pytest.raises(InvalidInput, match="has 3 outputs"):
        provider().reranker(str(folder)).rerank("a", ["b"])


@pytest.mark.parametrize(("spoil", "expected"), [
    (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100), Corrupt),
    (lambda folder: (folder / "model.safetensors").unlink(), Corrupt),
    (lambda folder: (folder / "config.json").write_text("{"), Corrupt)])
def test_a_damaged_folder_is_named(embedder_folder: Path, tmp_path: Path, spoil: object, expected: type[Exception]) -> None:
    folder = shutil.copytree(embedder_folder, tmp_path / "broken")
    spoil(folder)     # type: ignore[operator]
    with pytest.raises(expected) as caught:
        provider().embedder(str(folder)).embed(["a"])
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_that_are_none() -> None:
    with pytest.raises(NotFound, match="no folder /nowhere"):
        _ = provider().embedder("/nowhere/at-all").signature
    with pytest.raises(InvalidInput, match="neither a folder nor a model"):
        _ = provider().embedder("a/b/c").signature
    with pytest.raises(NotFound, match="does not chat"):
        provider().chat_model("a/b")


def test_threads_share_an_embedder(embedder_folder: Path) -> None:
    embedder = provider().embedder(str(embedder_folder))
    expected = embedder.embed(TEXTS)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(embedder.embed(TEXTS))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for each in found:
        np.testing.assert_allclose(each, expected, atol=1e-6)


def test_a_collection_stands_on_it_and_notices_other_weights(embedder_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(embedder_folder, tmp_path / "model")
    (tmp_path / "a.txt").write_text("The bicycle is kept in the cellar.\n")
    name = f"sentence_transformers/{folder}"
    with madang.open(tmp_path / "ws") as ws:
        ws.ingest(tmp_path / "a.txt", embedder=name)
        assert ws.search("bicycle cellar")[0].text.startswith("The bicycle")
    other = checkpoints.save_embedder(tmp_path / "other", seed=5)
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with madang.open(tmp_path / "ws") as ws, pytest.raises(Conflict, match="was made with"):
        ws.search("bicycle", mode="dense")


def test_named_in_the_settings_it_is_offered(cross_encoder_folder: Path) -> None:
    name = f"sentence_transformers/{cross_encoder_folder}"
    models = Models(Settings(aliases={"cohere-rerank-3.5": name}, local=CPU))
    models.restrict()
    assert models.reranker("cohere-rerank-3.5").name == name
    assert len(models.reranker("cohere-rerank-3.5").rerank("a", ["b", "c"])) == 2


# --- from the hub ---

class Hub:
    """The few answers of the hub that fetching a model needs, for one model, on loopback."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, folder: Path, model: str, status: int = 200) -> None:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.asked = asked = list[str]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked.append(self.path)
                if status != 200:
                    self._send(status, b"{}", {"X-Error-Code": "GatedRepo" if status == 403 else "RepoNotFound"})
                elif self.path.startswith(f"/api/models/{model}/tree/"):
                    tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
                    self._send(200, json.dumps(tree).encode(), {})
                elif self.path.startswith(f"/api/models/{model}"):
                    siblings = [{"rfilename": name} for name in files]
                    self._send(200, json.dumps({"id": model, "sha": Hub.COMMIT, "siblings": siblings}).encode(), {})
                else:
                    name = self.path.partition(f"/{model}/resolve/{Hub.COMMIT}/")[2].partition("?")[0]
                    if name not in files:
                        self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                        return
                    self._send(200, files[name], {"ETag": f'"{len(files[name]):040x}"', "X-Repo-Commit": Hub.COMMIT})

            do_HEAD = do_GET      # noqa: N815

            def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(code)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> Hub:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def use(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        from huggingface_hub import constants

        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{self.server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def test_a_model_is_fetched_from_the_hub_once(embedder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub(embedder_folder, "someone/tiny") as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        with pytest.raises(NotFound, match="is not on this machine"):
            provider(download=False).embedder("someone/tiny").embed(["a"])
        assert not hub.asked
        embedder = provider().embedder("someone/tiny")
        np.testing.assert_array_equal(embedder.embed(TEXTS), provider().embedder(str(embedder_folder)).embed(TEXTS))
        assert embedder.signature == f"sentence_transformers/someone/tiny@{weights.digest(embedder_folder)[:12]}"
        assert any("model.safetensors" in path for path in hub.asked)
        assert not any("README" in path and "resolve" in path for path in hub.asked)
    assert provider(download=False).embedder("someone/tiny").embed(["a"]).shape == (1, 16)
    assert provider().embedder("someone/tiny").embed(["a"]).shape == (1, 16)       # the hub is gone; what is here is used


@pytest.mark.parametrize(("status", "kind", "words"), [(404, NotFound, "has no model"), (403, ServiceError, "accepted its terms")])
def test_what_the_hub_refuses(embedder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int,
                              kind: type[Exception], words: str) -> None:
    with Hub(embedder_folder, "someone/tiny", status) as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        with pytest.raises(kind, match=words):
            provider().embedder("someone/tiny").embed(["a"])


def test_a_hub_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder_folder: Path) -> None:
    with Hub(embedder_folder, "someone/tiny") as hub:
        hub.use(monkeypatch, tmp_path / "cache")
    with pytest.raises(ServiceError, match=r"could not be reached.*copy the model's folder"):
        provider().embedder("someone/tiny").embed(["a"])
