"""Classification by prompts, with vectors that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import InvalidInput
from madang.models.protocol import EmbedKind, Progress, Vectors
from madang.multimodal.zero_shot import TEMPLATES, ZeroShot


class Table:
    """Unit vectors by text; a direction of its own for each text that has none."""

    def __init__(self, known: Mapping[str, Sequence[float]] | None = None) -> None:
        self.known = {text: np.asarray(vector, np.float32) for text, vector in (known or {}).items()}
        self.asked: list[tuple[str, EmbedKind]] = []

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        self.asked += [(text, kind) for text in texts]
        for text in texts:
            self.known.setdefault(text, np.eye(64, dtype=np.float32)[len(self.known)])
        return np.stack([self.known[text] for text in texts])


def unit(count: int, dim: int, seed: int) -> Vectors:
    found = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_a_class_is_the_mean_of_its_prompts_made_one_long() -> None:
    model = Table({"a": [1, 0, 0], "b": [0, 1, 0], "c": [0, 0.6, 0.8]})
    found = ZeroShot.of(model, {"both": ["a", "b"], "last": ["c"], "more": ["a", "a", "b"]})
    assert found.labels == ("both", "last", "more")
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, [[0.5 ** 0.5, 0.5 ** 0.5, 0], [0, 0.6, 0.8], [0.8 ** 0.5, 0.2 ** 0.5, 0]],
                               atol=1e-6)
    np.testing.assert_allclose(found.scores(np.array([[0, 0, 1], [1, 0, 0]], np.float32)),
                               [[0, 0.8, 0], [0.5 ** 0.5, 0, 0.8 ** 0.5]], atol=1e-6)
    assert {kind for _, kind in model.asked} == {"query"}


def test_labels_go_where_the_templates_say() -> None:
    model = Table()
    found = ZeroShot.of(model, ["cat", "dog"], ["one {}", "{}, or so"])
    assert [text for text, _ in model.asked] == ["one cat", "cat, or so", "one dog", "dog, or so"]
    assert found.labels == ("cat", "dog")
    usual = Table()
    ZeroShot.of(usual, ["고양이", "{x}"])
    assert [text for text, _ in usual.asked] == [
        template.replace("{}", label) for label in ("고양이", "{x}") for template in TEMPLATES]


def test_a_label_that_is_named_twice_counts_once() -> None:
    assert ZeroShot.of(Table(), ["cat", "dog", "cat"]).labels == ("cat", "dog")


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 1000), st.floats(0, 100))
def test_best_and_shares_agree_with_the_definition(classes: int, count: int, seed: int, scale: float) -> None:
    vectors, pictures = unit(classes, 8, seed), unit(count, 8, seed + 5000)
    labels = tuple(f"class {at}" for at in range(classes))
    model = ZeroShot(labels, vectors)
    cosines = [[sum(float(a) * float(b) for a, b in zip(picture, vector, strict=True)) for vector in vectors]
               for picture in pictures]
    np.testing.assert_allclose(model.scores(pictures), cosines, atol=1e-6)
    assert model.best(pictures) == [labels[int(np.argmax(row))] for row in cosines]
    shares = model.shares(pictures, scale)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    raised = np.exp(np.array(cosines) * scale)
    np.testing.assert_allclose(shares, raised / raised.sum(1, keepdims=True), atol=1e-4)


def test_a_large_scale_overflows_nothing() -> None:
    model = ZeroShot(("a", "b"), np.eye(2, dtype=np.float32))
    np.testing.assert_array_equal(model.shares(np.eye(2, dtype=np.float32), 1e6), np.eye(2))
    np.testing.assert_allclose(model.shares(np.eye(2, dtype=np.float32), 0), 0.5)


def test_no_pictures_have_no_labels() -> None:
    model = ZeroShot(("a", "b"), np.eye(2, dtype=np.float32))
    assert model.best(np.zeros((0, 2), np.float32)) == []
    assert model.shares(np.zeros((0, 2), np.float32), 10).shape == (0, 2)


@pytest.mark.parametrize(("classes", "templates", "message"), [
    (["cat"], TEMPLATES, "^classes: at least two different ones are needed, not 1"),
    ([], TEMPLATES, "^classes: .* not 0"),
    (["cat", "cat"], TEMPLATES, "^classes: .* not 1"),
    ({"cat": ["a cat"]}, TEMPLATES, "^classes: .* not 1"),
    ({"cat": ["a cat"], "dog": []}, TEMPLATES, "^classes: 'dog' has no prompt"),
    (["cat", "dog"], ["a {}", "a picture"], r"^templates: \['a picture'\] must contain \"\{\}\""),
    (["cat", "dog"], [], "^templates: none must contain"),
])
def test_refused(classes: Any, templates: Sequence[str], message: str) -> None:
    model = Table()
    with pytest.raises(InvalidInput, match=message):
        ZeroShot.of(model, classes, templates)
    assert not model.asked
