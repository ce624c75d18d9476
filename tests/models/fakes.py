"""Models for tests that are not about models: small, deterministic, honest about their shapes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from madang.base.messages import ChatOptions, Delta, Message, Usage
from madang.models.protocol import EmbedKind, Progress, Vectors


class WordHashEmbedder:
    """Each word adds a fixed random direction: texts that share words are near."""

    name = "test/words"
    signature = "test/words@1"
    dim = 32
    languages = frozenset({"en"})
    dense_weight = 1.0

    def __init__(self, before_embedding: Callable[[Sequence[str]], None] | None = None) -> None:
        self._before = before_embedding
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        if self._before is not None:
            self._before(texts)
        if kind == "document":
            self.embedded += texts
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row, 0] = 1e-3
            for word in text.lower().split():
                seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "little")
                vectors[row] += np.random.default_rng(seed).standard_normal(self.dim).astype(np.float32)
            if progress is not None:
                progress(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class ScriptedChat:
    """A chat model that says what it was told to."""

    name = "test/chat"

    def __init__(self, text: str, finish_reason: str = "stop") -> None:
        self._text, self._finish = text, finish_reason
        self.heard: list[Message] = []

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        self.heard = list(messages)
        for start in range(0, len(self._text), 7):
            yield Delta(self._text[start:start + 7])
        yield Delta(finish_reason=self._finish, usage=Usage(10, 5), model="scripted-1")
