"""Models whose answers are kept in a `ResponseCache`: each role's request and answer as plain data and back."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base.messages import ChatOptions, Delta, Logprob, Message, Passage, ToolCallPiece, Usage
from madang.models.cache import Request, ResponseCache
from madang.models.folder import checked_texts
from madang.models.protocol import (
    ChatModel,
    Drawing,
    DrawOptions,
    Embedder,
    EmbedKind,
    Evidence,
    ImageGenerator,
    Progress,
    Reader,
    Reading,
    Reranker,
    Vectors,
)
from madang.models.tokens import CountsTokens

_EMBEDDED = 1024       # texts looked up, embedded and kept at a time: an interrupted run finds what it had


def cached(role: str, model: Any, cache: ResponseCache, *, at: str = "", sampled: bool = False) -> Any:
    """`model`, which plays `role` of `Provider`, behind `cache`.

    Args:
        at: where it is, for services of one name at several addresses. sampled: keep chats with a temperature, too,
            for which a model gives another answer each time.
    """
    identity = f"{_identity(model)}{f' at {at}' if at else ''}"
    if role == "embedder":
        kind = _CountingEmbedder if isinstance(model, CountsTokens) else CachedEmbedder
        return kind(model, cache, identity)
    if role == "chat_model":
        return CachedChat(model, cache, identity, sampled)
    others: dict[str, Any] = {"reader": CachedReader, "reranker": CachedReranker, "image_generator": CachedImages}
    return others[role](model, cache, identity)


def _identity(model: Any) -> str:
    return str(getattr(model, "signature", model.name))


def _kept(cache: ResponseCache, request: Request, ask: Callable[[], bytes]) -> bytes:
    """The kept answer, or the model's, which is kept."""
    if cache.mode != "record":
        (found,) = cache.get([request])
        if found is not None:
            return found
        if cache.mode == "replay":
            raise cache.absent(request)
    value = ask()
    cache.put([(request, value)])
    return value


class CachedEmbedder:
    """An `Embedder`; each text is kept by itself, so that batches may be cut otherwise."""

    def __init__(self, embedder: Embedder, cache: ResponseCache, identity: str) -> None:
        self._model, self._cache, self._identity = embedder, cache, identity
        self._dim: int | None = None

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def signature(self) -> str:
        return self._model.signature

    @property
    def languages(self) -> frozenset[str]:
        return self._model.languages

    @property
    def dense_weight(self) -> float:
        return self._model.dense_weight

    @property
    def dim(self) -> int:
        """Kept as well: a service is asked for it."""
        if self._dim is None:
            request = Request("embed", self._identity, "dim", "how many dimensions?")
            self._dim = int(_kept(self._cache, request, lambda: str(self._model.dim).encode()))
        return self._dim

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        """As `Embedder.embed`. Raises `NotFound` in replay for a text that was not recorded."""
        wanted = checked_texts(texts)
        if not wanted:
            return np.empty((0, self.dim), np.float32)
        parts = [self._part(wanted[start:start + _EMBEDDED], kind, progress)
                 for start in range(0, len(wanted), _EMBEDDED)]
        return np.concatenate(parts)

    def _part(self, texts: list[str], kind: EmbedKind, progress: Progress | None) -> Vectors:
        requests = [Request("embed", self._identity, [kind, text], text) for text in texts]
        known = [None] * len(texts) if self._cache.mode == "record" else self._cache.get(requests)
        missing: dict[str, list[int]] = {}       # a text that comes twice is asked for once
        for row, value in enumerate(known):
            if value is None:
                missing.setdefault(texts[row], []).append(row)
        if missing and self._cache.mode == "replay":
            raise self._cache.absent(requests[next(iter(missing.values()))[0]])
        if progress is not None and len(texts) > len(missing):
            progress(len(texts) - len(missing))
        fresh = self._model.embed(list(missing), kind, progress) if missing else np.empty((0, 0), np.float32)
        self._cache.put((requests[rows[0]], np.asarray(vector, "<f4").tobytes())
                        for rows, vector in zip(missing.values(), fresh, strict=True))
        width = fresh.shape[1] if missing else len(next(value for value in known if value)) // 4
        found = np.empty((len(texts), width), np.float32)
        for rows, vector in zip(missing.values(), fresh, strict=True):
            found[rows] = vector
        for row, value in enumerate(known):
            if value is not None:
                found[row] = np.frombuffer(value, "<f4")
        return found


class _CountingEmbedder(CachedEmbedder):
    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `CountsTokens`."""
        counting: Any = self._model
        counted: list[int] = counting.count_tokens(texts)
        return counted


class CachedChat:
    """A `ChatModel`: an answer that came to its end is kept piece by piece, and comes in the same pieces again."""

    def __init__(self, model: ChatModel, cache: ResponseCache, identity: str, sampled: bool) -> None:
        self._model, self._cache, self._identity, self._sampled = model, cache, identity, sampled

    @property
    def name(self) -> str:
        return self._model.name

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        """As `ChatModel.chat`. Raises `NotFound` in replay for a conversation that was not recorded."""
        options = options or ChatOptions()
        drawn = options.temperature is None or options.temperature > 0
        if drawn and self._cache.mode == "on" and not self._sampled:
            return self._model.chat(messages, options)
        asked = messages[-1].content if messages else ""
        request = Request("chat", self._identity, [list(messages), options], asked)
        if self._cache.mode != "record":
            (found,) = self._cache.get([request])
            if found is not None:
                return (delta_of(raw) for raw in json.loads(found))      # may be closed, as any answer
            if self._cache.mode == "replay":
                raise self._cache.absent(request)
        return _Kept(self._model.chat(messages, options), lambda pieces: self._keep(request, pieces))

    def _keep(self, request: Request, pieces: list[Delta]) -> None:
        value = json.dumps([_sparse(piece) for piece in pieces], ensure_ascii=False, separators=(",", ":"))
        self._cache.put([(request, value.encode("utf-8", "surrogatepass"))])


class _Kept(Iterator[Delta]):
    """An answer on its way, handed to `keep` when it is complete. What is given up half-way is not kept."""

    def __init__(self, answer: Iterator[Delta], keep: Callable[[list[Delta]], None]) -> None:
        self._answer, self._keep = answer, keep
        self._pieces: list[Delta] = []

    def __next__(self) -> Delta:
        try:
            piece = next(self._answer)
        except StopIteration:
            if self._pieces:
                self._keep(self._pieces)
                self._pieces = []
            raise
        self._pieces.append(piece)
        return piece

    def close(self) -> None:
        """Stop it."""
        self._call("close")

    def cancel(self) -> None:
        """Stop it, from another thread."""
        self._call("cancel")

    def _call(self, name: str) -> None:
        found = getattr(self._answer, name, None)
        if found is not None:
            found()


class CachedReader:
    """A `Reader`."""

    def __init__(self, model: Reader, cache: ResponseCache, identity: str) -> None:
        self._model, self._cache, self._identity = model, cache, identity

    @property
    def name(self) -> str:
        return self._model.name

    def read(self, question: str, passages: Sequence[Passage]) -> Reading:
        """As `Reader.read`."""
        request = Request("read", self._identity, [question, [passage.text for passage in passages]], question)
        raw = json.loads(_kept(self._cache, request,
                               lambda: json.dumps(asdict(self._model.read(question, passages))).encode()))
        return Reading(**raw | {"evidence": [Evidence(**each) for each in raw["evidence"]]})


class CachedReranker:
    """A `Reranker`; a question with its documents is one request, since scores may depend on all of them."""

    def __init__(self, model: Reranker, cache: ResponseCache, identity: str) -> None:
        self._model, self._cache, self._identity = model, cache, identity

    @property
    def name(self) -> str:
        return self._model.name

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """As `Reranker.rerank`."""
        request = Request("rerank", self._identity, [query, list(documents)], query)
        value = _kept(self._cache, request,
                      lambda: np.asarray(self._model.rerank(query, documents), "<f8").tobytes())
        return np.frombuffer(value, "<f8").astype(np.float64)


class CachedImages:
    """An `ImageGenerator`."""

    def __init__(self, model: ImageGenerator, cache: ResponseCache, identity: str) -> None:
        self._model, self._cache, self._identity = model, cache, identity

    @property
    def name(self) -> str:
        return self._model.name

    def draw(self, prompt: str, options: DrawOptions | None = None) -> list[Drawing]:
        """As `ImageGenerator.draw`. Pictures are drawn by chance; where that is wanted, switch the cache off."""
        options = options or DrawOptions()

        def ask() -> bytes:
            return json.dumps([[b64encode(each.data).decode(), each.media_type, each.prompt,
                                [b64encode(frame).decode() for frame in each.frames]]
                               for each in self._model.draw(prompt, options)]).encode()

        raw = _kept(self._cache, Request("draw", self._identity, [prompt, options], prompt), ask)
        return [Drawing(b64decode(data), media_type, revised, tuple(b64decode(frame) for frame in frames))
                for data, media_type, revised, frames in json.loads(raw)]


def _sparse(piece: Delta) -> dict[str, Any]:
    """The fields of a delta that say something."""
    return {each.name: asdict(piece)[each.name] for each in fields(piece) if getattr(piece, each.name) != each.default}


def delta_of(raw: dict[str, Any]) -> Delta:
    """The inverse of the fields of a delta as JSON."""
    made = dict(raw)
    if made.get("usage") is not None:
        made["usage"] = Usage(**made["usage"])
    made["tool_calls"] = tuple(ToolCallPiece(**each) for each in raw.get("tool_calls", ()))
    made["logprobs"] = tuple(Logprob(each["token"], each["logprob"], tuple((t, p) for t, p in each["top"]))
                             for each in raw.get("logprobs", ()))
    return Delta(**made)
