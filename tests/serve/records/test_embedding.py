"""The model behind an index that embeds."""

from __future__ import annotations

import numpy as np
import pytest

from madang.base.errors import InvalidInput
from madang.base.settings import Models as ModelSettings
from madang.base.settings import Settings
from madang.models.resolve import Models
from madang.serve.embedding import fitted, index_embedder

MODELS = Models(Settings(models=ModelSettings(embed="bundled/static")))


def test_an_index_is_as_wide_as_its_name_promises() -> None:
    for name, dim, width in (("multilingual-e5-large", None, 1024), ("llama-text-embed-v2", 384, 384),
                             ("bundled/static", None, 256), ("bundled/static", 256, 256)):
        assert index_embedder(MODELS, name, dim).dim == width
    for name, dim in (("bundled/static", 5), ("bundled/static", 1024), ("multilingual-e5-large", 512)):
        with pytest.raises(InvalidInput):
            index_embedder(MODELS, name, dim)


def test_only_zeros_are_left_out() -> None:
    vectors = np.array([[1, 2, 0, 0], [3, 0, 0, 0]], np.float32)
    assert np.array_equal(fitted(vectors, 2, "x"), vectors[:, :2])
    assert np.array_equal(fitted(vectors[:, :2], 4, "x"), vectors)
    assert fitted(vectors, 4, "x") is vectors
    with pytest.raises(InvalidInput, match="a vector of 4 numbers from x does not fit an index of 1"):
        fitted(vectors, 1, "x")
