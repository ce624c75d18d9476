"""Names of services' models: what they stand for, and the width of their vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput, NotFound
from madang.base.settings import Models as ModelSettings
from madang.base.settings import Settings
from madang.models import aliases
from madang.models.aliases import KNOWN, Resolved, widened
from madang.models.resolve import Models


def models(**own: str) -> Models:
    return Models(Settings(models=ModelSettings(embed="bundled/static", chat="local/chat", rerank="local/rank"),
                           aliases={name.replace("_", "-"): model for name, model in own.items()}))


def test_names_of_services_stand_for_what_the_settings_say() -> None:
    assert models().alias("gpt-4o") == Resolved("local/chat", None, "chat")
    assert models().alias("text-embedding-3-small") == Resolved("bundled/static", 1536, "embed")
    assert models().alias("multilingual-e5-large", "embed") == Resolved("bundled/static", 1024, "embed")
    assert models().alias("bge-reranker-v2-m3").name == "local/rank"
    assert models().alias("openai/gpt-4o") == Resolved("openai/gpt-4o")


@pytest.mark.parametrize("name", ["gpt-4o-2024-08-06", "gpt-4.1-mini-2025-04-14", "chatgpt-4o-latest", "o3-pro",
                                  "gpt-5.1", "ft:gpt-4o-mini-2024-07-18:org::id"])
def test_later_and_dated_chat_models(name: str) -> None:
    assert models().alias(name).role == "chat"


def test_the_settings_win_and_keep_the_width() -> None:
    own = models(gpt_4o="big/one", text_embedding_3_small="bundled/minilm", mine="bundled/minilm")
    assert own.alias("gpt-4o").name == "big/one"
    assert own.alias("gpt-4o-mini").name == "local/chat"
    assert own.alias("text-embedding-3-small") == Resolved("bundled/minilm", 1536, "embed")
    assert own.alias("mine", "embed") == Resolved("bundled/minilm", None, "embed")
    assert "mine" in aliases.names(Settings(aliases={"mine": "a/b"}), "chat")


def test_a_name_of_the_environment_is_found_whatever_its_marks() -> None:
    assert Models(Settings(aliases={"gpt-4-1": "a/b"})).alias("gpt-4.1").name == "a/b"


def test_an_alias_may_hold_a_slash() -> None:
    assert Models(Settings(aliases={"BAAI/bge": "a/b"})).alias("BAAI/bge").name == "a/b"


def test_refusals() -> None:
    with pytest.raises(NotFound, match=r"no model is called 'nope'\. Known: .*gpt-4o.*\[aliases\]"):
        models().alias("nope")
    with pytest.raises(InvalidInput, match="'gpt-4o' does not embed; it does chat"):
        models().alias("gpt-4o", "embed")
    for name in ("", 3, None):
        with pytest.raises(InvalidInput, match="name must be text"):
            models().alias(name)  # type: ignore[arg-type]
    for name, dimensions in (("text-embedding-3-small", 1537), ("text-embedding-ada-002", 512), ("mine", 0),
                             ("llama-text-embed-v2", 100), ("mine", True)):
        with pytest.raises(InvalidInput, match="dimensions"):
            models(mine="bundled/static").embedder_as(name, dimensions)


def test_an_embedder_has_the_width_its_callers_expect() -> None:
    real = models().embedder("bundled/static")
    for name, dimensions, width in (("text-embedding-3-large", None, 3072), ("text-embedding-3-large", 300, 300),
                                    ("llama-text-embed-v2", 512, 512), ("bundled/static", None, real.dim)):
        found = models().embedder_as(name, dimensions)
        vectors = found.embed(["a cat", "un chat"])
        assert (found.dim, found.name, found.signature) == (width, "bundled/static", real.signature)
        assert vectors.shape == (2, width)
        assert np.array_equal(vectors[:, :real.dim], real.embed(["a cat", "un chat"]))
        assert not vectors[:, real.dim:].any()


def test_fewer_numbers_are_a_unit_vector() -> None:
    found = models().embedder_as("text-embedding-3-small", 100).embed(["a cat", "two dogs"])
    assert found.shape == (2, 100)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_zeros_change_no_score(dim: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((5, dim)).astype(np.float32)
    wide = widened(vectors, width)
    assert wide.shape == (5, width)
    if width >= dim:
        assert np.array_equal(wide @ wide.T, np.pad(vectors, ((0, 0), (0, width - dim))) @ wide.T)
        assert np.allclose(wide @ wide.T, vectors @ vectors.T, atol=1e-5)
    else:
        first = vectors[:, :width]
        assert np.allclose(wide, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-5)


def test_a_vector_cut_to_nothing_still_has_a_direction() -> None:
    assert np.allclose(widened(np.array([[0, 0, 1]], np.float32), 2), [[2**-0.5, 2**-0.5]])


def test_every_known_width_is_one_it_can_be_asked_for() -> None:
    for name, each in KNOWN.items():
        assert (each.role == "embed") == (each.width is not None), name
        assert each.width is None or each.width in each.widths
