"""The bundled embedders: the protocol, the files, and that a vector depends on its text alone."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import InvalidInput, NotFound
from madang.models.protocol import Embedder
from madang.models.providers.bundled import FOLDER, BundledProvider

DIMS = {"minilm": 384, "static": 256}
TEXTS = [
    "How many vacation days do employees get?",
    "Staff are entitled to fifteen days of paid leave every year.",
    "The printer is out of paper.",
    "There are no sheets left in the printing tray.",
    "Wolves have returned to the forests of the north.",
    "Woodland in the north is again home to wolf packs.",
]


@cache
def bundled(name: str) -> Embedder:
    return BundledProvider().embedder(name)


@pytest.fixture(params=DIMS)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return bundled(request.param)


def test_says_what_it_is(embedder: Embedder) -> None:
    name = embedder.name.removeprefix("bundled/")
    assert isinstance(embedder, Embedder)
    assert embedder.dim == DIMS[name]
    assert embedder.languages == frozenset({"en"})
    assert embedder.signature.startswith(f"bundled/{name}@")
    assert len(embedder.signature.partition("@")[2]) == 12


def test_gives_unit_rows_of_float32(embedder: Embedder) -> None:
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_gives_no_rows_for_no_texts(embedder: Embedder) -> None:
    vectors = embedder.embed([])
    assert vectors.shape == (0, embedder.dim)
    assert vectors.dtype == np.float32


def test_a_vector_depends_on_its_text_alone(embedder: Embedder) -> None:
    """Otherwise ingesting a document again, in other company, would find it changed."""
    rng = random.Random(3)
    words = " ".join(TEXTS).split()
    texts = [*TEXTS, *(" ".join(rng.choices(words, k=rng.randint(1, 60))) for _ in range(60)), "", "연차", "!!!! 9999"]
    together = embedder.embed(texts)
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    order = rng.sample(range(len(texts)), len(texts))
    shuffled = embedder.embed([texts[index] for index in order])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_allclose(shuffled, together[order], atol=1e-6)


def test_meaning_decides_what_is_near(embedder: Embedder) -> None:
    """Each sentence's nearest is its paraphrase: rows 2i and 2i + 1."""
    vectors = embedder.embed(TEXTS)
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -1)
    assert list(similar.argmax(axis=1)) == [1, 0, 3, 2, 5, 4]


@pytest.mark.parametrize("name", DIMS)
def test_matches_the_golden_values(name: str) -> None:
    """Loosely, since instruction sets round differently; a changed model or tokenizer is far outside."""
    golden = json.loads((Path(__file__).parent / "golden_vectors.json").read_text(encoding="utf-8"))
    vectors = bundled(name).embed(list(golden["texts"]))[:, :8]
    np.testing.assert_allclose(vectors, golden[name], atol=0.01)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\x00", "\ud800", "한국어 문장입니다.", "日本語", "👩‍👩‍👧 é ñ",
                                  "x" * 5000, "word " * 5000])
def test_every_text_has_a_vector(embedder: Embedder, text: str) -> None:
    (vector,) = embedder.embed([text])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@given(text=st.text(max_size=80))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", DIMS)
def test_any_text_has_a_vector(name: str, text: str) -> None:
    assert np.linalg.norm(bundled(name).embed([text])[0]) == pytest.approx(1, abs=1e-5)


def test_minilm_reads_only_the_first_tokens_of_a_long_text() -> None:
    first, second = bundled("minilm").embed(["word " * 400, "word " * 400 + "something else at the end"])
    np.testing.assert_array_equal(first, second)


def test_static_reads_all_of_a_long_text() -> None:
    first, second = bundled("static").embed(["word " * 400, "word " * 400 + "something else at the end"])
    assert not np.array_equal(first, second)


def test_static_gives_texts_without_known_tokens_one_fixed_vector() -> None:
    empty, snowmen = bundled("static").embed(["", "𐍈𐍈"])
    np.testing.assert_array_equal(empty, snowmen)
    np.testing.assert_allclose(empty, 1 / 16)


@pytest.mark.parametrize("count", [0, 1, 7, 1100])
def test_progress_adds_up_to_the_texts(embedder: Embedder, count: int) -> None:
    if embedder.name == "bundled/minilm":
        count = min(count, 130)  # slower, and 130 already makes several batches
    seen: list[int] = []
    embedder.embed(["one", "two words", "three more words"] * (count // 3) + ["rest"] * (count % 3),
                   progress=seen.append)
    assert sum(seen) == count
    assert all(step > 0 for step in seen)


def test_threads_may_share_it(embedder: Embedder) -> None:
    expected = embedder.embed(TEXTS)
    fresh = BundledProvider().embedder(embedder.name.removeprefix("bundled/"))  # not loaded yet: loading races too
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: fresh.embed(TEXTS), range(16)):
            np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize(("texts", "message"), [("one string", "not one string"), (["a", 5], r"texts\[1\] must be a string"),
                                                ([None], r"texts\[0\] must be a string, not NoneType")])
def test_refuses_what_is_not_a_list_of_strings(embedder: Embedder, texts: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        embedder.embed(texts)


def test_naming_a_model_loads_no_heavy_library() -> None:
    code = ("import sys; from madang.models.providers.bundled import BundledProvider as B; "
            "[(e.signature, e.dim) for e in map(B().embedder, ('minilm', 'static'))]; "
            "print({'onnxruntime', 'tokenizers', 'safetensors', 'torch'} & set(sys.modules))")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_provider_lists_what_it_offers() -> None:
    provider = BundledProvider()
    assert provider.models() == ["minilm", "static", "clip", "reader", "reranker", "llava", "unclip"]
    with pytest.raises(NotFound, match="Known: minilm, static"):
        provider.embedder("huge")
    with pytest.raises(NotFound, match="Known: reader"):
        provider.reader("minilm")


@pytest.mark.parametrize("name", ["minilm", "gpt"])
def test_no_other_bundled_model_chats(name: str) -> None:
    with pytest.raises(NotFound, match="Configure a service"):
        BundledProvider().chat_model(name)


@pytest.mark.parametrize("name", DIMS)
def test_the_digest_is_that_of_the_files(name: str) -> None:
    own = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))["madang"]
    content = (FOLDER / name / own["weights"]).read_bytes() + (FOLDER / name / "tokenizer.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == own["sha256"]
    assert bundled(name).signature == f"bundled/{name}@{own['sha256'][:12]}"


def _front_matter(name: str) -> dict[str, object]:
    """The card's front matter: `key: JSON` lines, those under "madang:" indented."""
    text = (FOLDER / name / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    assert "What it cannot do" in body
    assert "Apache-2.0" in body
    pairs = [line.strip().split(": ", 1) for line in head.splitlines() if ": " in line]
    return {key: json.loads(value) for key, value in pairs}


@pytest.mark.parametrize("name", DIMS)
def test_the_card_tells_source_licence_size_and_quality(name: str) -> None:
    facts = _front_matter(name)
    weights = FOLDER / name / json.loads((FOLDER / name / "config.json").read_text("utf-8"))["madang"]["weights"]
    assert facts["license"] == "apache-2.0"
    assert facts["language"] == ["en"]
    assert facts["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert facts["signature"] == bundled(name).signature, "run scripts/models/check.py after rebuilding"
    assert facts["dim"] == DIMS[name]
    assert facts["size_bytes"] == weights.stat().st_size < 25_000_000
    quality = ["spearman", "paraphrase_at_1", "ndcg_at_10", "hit_at_1", "same_first_hit", "short_per_s", "chunks_per_s"]
    assert all(isinstance(facts[key], int | float) for key in quality)


def test_minilm_is_as_near_to_its_teacher_as_its_card_must_say() -> None:
    facts = _front_matter("minilm")
    assert facts["cosine_mean"] > 0.998  # type: ignore[operator]
    assert facts["cosine_min"] > 0.99  # type: ignore[operator]
    assert facts["same_first_hit"] > 0.9  # type: ignore[operator]
