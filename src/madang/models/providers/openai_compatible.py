"""Any service that speaks OpenAI's protocol (OpenAI, vLLM, Ollama, llama.cpp, gateways), by configuration.

A table [services.NAME] of madang.toml makes "NAME/MODEL" a model. httpx is imported with the first request.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from madang.base.errors import InvalidInput, NotFound
from madang.base.messages import ChatOptions, Delta, Message
from madang.base.settings import Service
from madang.models.protocol import (
    ChatModel,
    Drawing,
    DrawOptions,
    Embedder,
    EmbedKind,
    ImageGenerator,
    Progress,
    Reader,
    Reranker,
    Vectors,
)
from madang.models.providers.cancelling import Cancellable, Cancelled
from madang.models.providers.connection import Connection, read_json
from madang.wire import openai, openai_messages

if TYPE_CHECKING:
    import httpx

_BATCH = 64   # texts in one embeddings request
_ROLES = ("system", "user", "assistant", "tool")


class OpenAICompatibleProvider:
    """The models of one configured service.

    `sleep` waits between attempts, `rng` draws how long and `clock` tells seconds; a test passes its own.

    Raises:
        InvalidInput: `service.base_url` is no http(s) address, or `service.api_key` cannot be sent.
    """

    def __init__(self, name: str, service: Service, *, sleep: Callable[[float], None] = time.sleep,
                 rng: random.Random | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = Connection(name, service, sleep, rng or random.Random(), clock)

    def models(self) -> list[str]:
        """Nothing: only the server knows, and it may not be running."""
        return []

    def chat_model(self, model: str) -> ChatModel:
        """The chat model that the server calls `model`. Nothing is asked before the first chat."""
        return OpenAICompatibleChat(self._connection, model)

    def embedder(self, model: str) -> Embedder:
        """The embedding model that the server calls `model`. Nothing is asked before its first use."""
        return OpenAICompatibleEmbedder(self._connection, model)

    def reader(self, model: str) -> Reader:
        """Refused: services chat. Raises `NotFound` with what to configure instead."""
        raise NotFound(f"service {self._connection.name!r} offers no extractive readers, so no {model!r}.",
                       remedy=f'Set [models] chat = "{self._connection.name}/{model}", or "bundled/reader".')

    def reranker(self, model: str) -> Reranker:
        """Refused: this protocol has no reranking. Raises `NotFound` with what to configure instead."""
        raise NotFound(f"service {self._connection.name!r} offers no rerankers, so no {model!r}.",
                       remedy='Set [models] rerank = "bundled/reranker".')

    def image_generator(self, model: str) -> ImageGenerator:
        """The image model that the server calls `model`. Nothing is asked before its first use."""
        return OpenAICompatibleImages(self._connection, model)

    def close(self) -> None:
        """Close idle connections. Also done when the provider and its models are garbage."""
        self._connection.close()


class OpenAICompatibleChat:
    """A `ChatModel` behind POST /chat/completions."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._model = model
        self._objected: list[str] = []   # request keys this model does not take, learned from its refusals

    @property
    def name(self) -> str:
        return f"{self._connection.name}/{self._model}"

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Cancellable[Delta]:
        """Stream the answer as it arrives; the last delta has no text but the finish reason and the usage.

        What fails before the first delta is tried again; after it, never. Closing the iterator closes the
        connection, which stops the server; `cancel` does so from another thread, however long the service has been
        silent. A model that does not take `temperature` uses its own.

        Raises:
            InvalidInput: no messages, an unknown role, or a number out of range.
            ServiceError: while iterating; its message says what to do.
        """
        options = options or ChatOptions()
        if not messages:
            raise InvalidInput("messages must hold at least one message.")
        for message in messages:
            if message.role not in _ROLES or not isinstance(message.content, str):
                raise InvalidInput(f"messages must be text from {', '.join(_ROLES)}, not {message!r:.80}.")
        if options.temperature is not None and not (isfinite(options.temperature) and options.temperature >= 0):
            raise InvalidInput(f"temperature must be a number of at least 0, not {options.temperature!r}.")
        if options.max_tokens is not None and options.max_tokens < 1:
            raise InvalidInput(f"max_tokens must be at least 1, not {options.max_tokens!r}.")
        body = openai_messages.encode_chat(messages, self._model, options)
        cancelled = Cancelled()
        return Cancellable(self._connection.answers("/chat/completions", body, _chat_answer, self._objected, cancelled),
                           cancelled)


class OpenAICompatibleEmbedder:
    """An `Embedder` behind POST /embeddings."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._model = model
        self._dim: int | None = None

    @property
    def name(self) -> str:
        return f"{self._connection.name}/{self._model}"

    @property
    def signature(self) -> str:
        """The name: a service does not tell which weights stand behind it."""
        return self.name

    @property
    def languages(self) -> frozenset[str]:
        return frozenset()

    @property
    def dense_weight(self) -> float:
        return 1.0

    @property
    def dim(self) -> int:
        """Length of a vector; asks the service once if nothing was embedded yet. Raises `ServiceError`."""
        return self._dim if self._dim is not None else self._ask(["dimension"]).shape[1]

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document",
              progress: Progress | None = None) -> Vectors:
        """float32 (n, dim), rows of length 1. `kind` makes no difference to this protocol.

        Raises:
            InvalidInput: `texts` is not a sequence of str.
            ServiceError: `kind` "protocol" if the number or length of the vectors is not as it must be.
        """
        if isinstance(texts, str | bytes):
            raise InvalidInput("texts must be a sequence of str, not a single one.", remedy="Pass [text].")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise InvalidInput(f"texts[{number}] must be str, not {type(text).__name__}.")
        if not len(texts):
            return np.empty((0, self.dim), np.float32)
        rows = []
        for start in range(0, len(texts), _BATCH):
            rows.append(self._ask(texts[start:start + _BATCH]))
            if progress is not None:
                progress(len(rows[-1]))
        return np.concatenate(rows)

    def _ask(self, texts: Sequence[str]) -> Vectors:
        def decode(response: httpx.Response) -> Iterator[Vectors]:
            yield self._unit(np.array(openai.decode_embeddings(read_json(response), len(texts)), np.float32))

        body = openai.encode_embeddings(texts, self._model)
        return next(self._connection.answers("/embeddings", body, decode))

    def _unit(self, vectors: Vectors) -> Vectors:
        if self._dim not in (None, vectors.shape[1]):
            raise openai.Malformed(f"embeddings of {vectors.shape[1]} numbers, after {self._dim} before")
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise openai.Malformed("an embedding is zero or not finite")
        self._dim = vectors.shape[1]
        unit: Vectors = (vectors / lengths).astype(np.float32)
        return unit


class OpenAICompatibleImages:
    """An `ImageGenerator` behind POST /images/generations."""

    def __init__(self, connection: Connection, model: str) -> None:
        self._connection = connection
        self._model = model

    @property
    def name(self) -> str:
        return f"{self._connection.name}/{self._model}"

    def draw(self, prompt: str, options: DrawOptions | None = None) -> list[Drawing]:
        """As many pictures as `options.count`. They must come in the answer: an address that a service names is not
        read.

        Raises:
            InvalidInput: an empty prompt.
            ServiceError: its message says what to do.
        """
        options = options or DrawOptions()
        if not prompt.strip():
            raise InvalidInput("the prompt is empty.", remedy="Say what the picture shall show.")
        body = openai.encode_images(prompt, self._model, {
            "n": options.count, "size": options.size, "quality": options.quality, "style": options.style,
            "background": options.background, "output_format": options.output_format,
            # gpt-image models always give base64 and refuse the key; the rest give an address unless told.
            "response_format": "" if self._model.startswith("gpt-image") else "b64_json"})

        def decode(response: httpx.Response) -> Iterator[list[Drawing]]:
            found = openai.decode_images(read_json(response))
            if not all(data for data, _, _ in found):
                raise openai.Malformed("pictures as addresses although base64 was asked for")
            yield [Drawing(data, _picture_type(data), revised) for data, _, revised in found]

        return next(self._connection.answers("/images/generations", body, decode))


def _picture_type(data: bytes) -> str:
    for start, kind in ((b"\xff\xd8", "image/jpeg"), (b"RIFF", "image/webp"), (b"GIF8", "image/gif")):
        if data.startswith(start):
            return kind
    return "image/png"


def _chat_answer(response: httpx.Response) -> Iterator[Delta]:
    """Deltas from a stream, or a single one from a server that does not stream."""
    import httpx

    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json" or content_type.endswith("+json"):
        yield openai.decode_chat(read_json(response))
        return
    if "html" in content_type:
        raise openai.Malformed("a web page")
    broken: list[httpx.RequestError] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except httpx.RequestError as error:   # no matter if the answer was complete
            broken.append(error)

    try:
        yield from openai.decode_stream(pieces())
    except openai.CutOff as cut:
        if broken and isinstance(broken[0], httpx.TimeoutException):
            raise broken[0] from None
        kind = "" if content_type == "text/event-stream" else f" (content type {content_type or 'missing'})"
        raise openai.CutOff(f"{cut}{kind}") from (broken[0] if broken else None)
