"""How many tokens texts have: told by the model where it can, estimated where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

_BYTES = 4      # of UTF-8 a token has, about: https://help.openai.com/en/articles/4936856


@runtime_checkable
class CountsTokens(Protocol):
    """A model that has its tokenizer at hand."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, whatever the model then cuts off."""
        ...


def count_tokens(model: object, texts: Sequence[str]) -> list[int]:
    """As the model counts them, else a token for every four bytes."""
    if isinstance(model, CountsTokens):
        return model.count_tokens(texts)
    return [-(-len(text.encode("utf-8", "replace")) // _BYTES) for text in texts]
