"""The bundled reranker: words and meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from madang.base.errors import InvalidInput, NotFound
from madang.base.settings import Models as ModelSettings
from madang.base.settings import Settings
from madang.models.protocol import Reranker
from madang.models.resolve import Models

MODELS = Models(Settings())
RERANKER = MODELS.reranker("bundled/reranker")


def test_it_is_found_by_its_name_and_by_those_of_services() -> None:
    assert isinstance(RERANKER, Reranker)
    for name in ("bge-reranker-v2-m3", "cohere-rerank-3.5", "pinecone-rerank-v0"):
        assert MODELS.reranker(name) is RERANKER
    with pytest.raises(InvalidInput, match="does not rerank"):
        MODELS.reranker("gpt-4o")
    with pytest.raises(NotFound, match="no bundled reranker is called 'minilm'"):
        MODELS.reranker("bundled/minilm")
    with pytest.raises(NotFound, match="offers no rerankers"):
        Models(Settings(models=ModelSettings(rerank="openai/x"), services={"openai": _service()})).reranker(
            "pinecone-rerank-v0")


def _service() -> Any:
    from madang.base.settings import Service

    return Service("http://127.0.0.1:9/v1")


@pytest.mark.parametrize(("query", "documents", "best"), [
    ("How many vacation days do I get?", ["The canteen opens at noon.", "Staff get 25 vacation days a year.",
                                          "A day has 24 hours."], 1),
    ("automobile repair", ["We cook noodles.", "The garage fixes cars.", "Trees grow slowly."], 1),     # by meaning
    ("연차는 며칠인가요?", ["식당은 정오에 엽니다.", "연차는 일 년에 25일입니다.", "하루는 24시간입니다."], 1),
])
def test_what_answers_comes_first(query: str, documents: list[str], best: int) -> None:
    assert int(np.argmax(RERANKER.rerank(query, documents))) == best


def test_documents_are_few_or_odd() -> None:
    assert RERANKER.rerank("x", []).shape == (0,)
    assert RERANKER.rerank("", ["", "a"]).shape == (2,)
    with pytest.raises(InvalidInput, match=r"texts\[0\] must be a string"):
        RERANKER.rerank("x", [3])  # type: ignore[list-item]


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=40), min_size=1, max_size=4), st.randoms())
def test_scores_are_shares_and_know_no_order(query: str, documents: list[str], random: Any) -> None:
    scores = RERANKER.rerank(query, documents)
    assert ((scores >= 0) & (scores <= 1 + 1e-6)).all()
    order = list(range(len(documents)))
    random.shuffle(order)
    assert np.allclose(RERANKER.rerank(query, [documents[i] for i in order]), scores[order], atol=1e-5)
