"""The loaders on folders that are not bundled: other precisions, other layouts, missing and damaged files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from madang.base.errors import Corrupt, NotFound
from madang.models.providers.onnx_embedder import OnnxEmbedder
from madang.models.providers.seers import FOLDER
from madang.models.providers.static_embedder import StaticEmbedder

VOCABULARY = {"[UNK]": 0, "red": 1, "blue": 2, "car": 3}
TABLE = np.array([[9, 9, 9], [1, 0, 0], [0, 2, 0], [0, 0, -2]], np.float32)


def model2vec_folder(folder: Path, tensors: dict[str, np.ndarray[Any, Any]], **config: Any) -> Path:
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(save(tensors))
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True, **config}))
    return folder


@pytest.mark.parametrize("dtype", [np.int8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("key", ["embeddings", "embedding.weight"])
def test_static_reads_tables_of_every_precision(tmp_path: Path, dtype: type, key: str) -> None:
    embedder = StaticEmbedder(model2vec_folder(tmp_path / "tiny", {key: TABLE.astype(dtype)}))
    vectors = embedder.embed(["red blue", "car", "red strange", "", "strange"])
    even = np.ones(3) / np.sqrt(3)
    expected = [np.array([1, 2, 0]) / np.sqrt(5), [0, 0, -1], [1, 0, 0], even, even]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert embedder.dim == 3
    assert embedder.languages == frozenset()
    assert embedder.name == "tiny"


def test_static_applies_weights_and_mapping(tmp_path: Path) -> None:
    tensors = {"embeddings": np.array([[1, 0], [0, 1]], np.float32), "weights": np.array([1, 3, 4, 1], np.float64),
               "mapping": np.array([0, 0, 1, 1])}
    vectors = StaticEmbedder(model2vec_folder(tmp_path, tensors)).embed(["red blue"])
    np.testing.assert_allclose(vectors, [[0.6, 0.8]], atol=1e-6)


def test_static_cuts_where_the_config_says(tmp_path: Path) -> None:
    embedder = StaticEmbedder(model2vec_folder(tmp_path, {"embeddings": TABLE}, max_length=1))
    np.testing.assert_allclose(embedder.embed(["red car car"]), [[1, 0, 0]])


def test_the_signature_changes_with_the_weights(tmp_path: Path) -> None:
    before = StaticEmbedder(model2vec_folder(tmp_path, {"embeddings": TABLE})).signature
    assert StaticEmbedder(tmp_path).signature == before
    assert StaticEmbedder(model2vec_folder(tmp_path, {"embeddings": TABLE + 1})).signature != before


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    (model2vec_folder(tmp_path, {"embeddings": TABLE}) / missing).unlink()
    with pytest.raises(NotFound, match=missing):
        StaticEmbedder(tmp_path)


@pytest.mark.parametrize(("file", "content"), [
    ("model.safetensors", b"version https://git-lfs"), ("model.safetensors", b""), ("tokenizer.json", b"{}"),
    ("config.json", b"{"), ("config.json", b"[]"),
    ("model.safetensors", save({"other": TABLE})), ("model.safetensors", save({"embeddings": TABLE[:2]})),
    ("model.safetensors", save({"embeddings": TABLE * np.float32(np.nan)})), ("model.safetensors", save({"embeddings": TABLE[0]})),
])
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    (model2vec_folder(tmp_path, {"embeddings": TABLE}) / file).write_bytes(content)
    with pytest.raises(Corrupt, match=file):
        StaticEmbedder(tmp_path).embed(["red"])


def test_onnx_reads_a_folder_that_says_nothing_of_madang(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER / "minilm", tmp_path / "downloaded")
    config = json.loads((folder / "config.json").read_text())
    del config["madang"]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}')
    embedder = OnnxEmbedder(folder, threads=1)
    bundled = OnnxEmbedder(FOLDER / "minilm", threads=1)
    assert embedder.name == "downloaded"
    assert embedder.languages == frozenset()
    assert embedder.signature.partition("@")[2] == bundled.signature.partition("@")[2]
    np.testing.assert_allclose(embedder.embed(["a red car"]), bundled.embed(["a red car"]), atol=1e-6)
    first, second = embedder.embed(["a b c d e f g h", "a b c d e f x y"])
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("content", [b"version https://git-lfs", b""])
def test_damaged_onnx_weights_are_named(tmp_path: Path, content: bytes) -> None:
    folder = shutil.copytree(FOLDER / "minilm", tmp_path / "damaged")
    (folder / "onnx" / "model_int8.onnx").write_bytes(content)
    with pytest.raises(Corrupt, match=r"model_int8\.onnx is damaged"):
        OnnxEmbedder(folder).embed(["red"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        OnnxEmbedder(tmp_path / "nowhere")


def test_onnx_pads_nothing_and_covers_every_text() -> None:
    embedder = OnnxEmbedder(FOLDER / "minilm", threads=1)
    texts = ["one", "two words", "three more words", "one", "a b c d e"] * 20
    feeds = embedder.batches(texts)
    assert all((feed["attention_mask"] == 1).all() for feed in feeds)
    assert sum(len(feed["input_ids"]) for feed in feeds) == len(texts)


def test_the_graph_honours_a_mask() -> None:
    """Madang never pads, but whoever loads the file elsewhere may."""
    embedder = OnnxEmbedder(FOLDER / "minilm", threads=1)
    (feed,) = embedder.batches(["a red car on the road"])
    padded = {name: np.pad(value, ((0, 0), (0, 5))) for name, value in feed.items()}
    plain, masked = (embedder.session.run(["sentence_embedding"], given)[0] for given in (feed, padded))
    assert (plain * masked).sum() > 0.998
