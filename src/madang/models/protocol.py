"""What a model offers. Rooms above know models only through these protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from madang.base.messages import ChatOptions, Delta, Message, Passage

Vectors: TypeAlias = NDArray[np.float32]
EmbedKind = Literal["document", "query"]
Picture: TypeAlias = NDArray[np.uint8]         # RGB (height, width, 3)
Progress: TypeAlias = Callable[[int], None]   # called with the number of texts finished since the last call


class Embeds(Protocol):
    """Texts to unit vectors."""

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document",
              progress: Progress | None = None) -> Vectors:
        """float32 (n, dim), rows of length 1, in the order of `texts`. An empty list gives (0, dim)."""
        ...


class SeesAndReads(Embeds, Protocol):
    """Pictures and texts to unit vectors of one space."""

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        """float32 (n, dim), rows of length 1, in the order of `pictures`, which may have different sizes."""
        ...


@runtime_checkable
class Embedder(Embeds, Protocol):
    """Texts to unit vectors, by a model with a name."""

    @property
    def name(self) -> str:
        """How configuration names it, e.g. "bundled/minilm"."""
        ...

    @property
    def signature(self) -> str:
        """Name plus whatever decides its vectors (a digest of the weights); stored with a collection."""
        ...

    @property
    def dim(self) -> int: ...

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes it was made for; empty means unknown: treated as any."""
        ...

    @property
    def dense_weight(self) -> float:
        """How much its ranking counts beside BM25's when the two are fused; 1.0 is as much."""
        ...


@runtime_checkable
class ImageEmbedder(Embedder, SeesAndReads, Protocol):
    """Pictures and texts to unit vectors of one space, by a model with a name: CLIP and its relatives."""

    @property
    def scale(self) -> float:
        """What cosines are multiplied by before the softmax that it was trained with."""
        ...


@runtime_checkable
class ChatModel(Protocol):
    """A conversation to a streamed answer."""

    @property
    def name(self) -> str: ...

    def chat(self, messages: Sequence[Message], options: ChatOptions | None = None) -> Iterator[Delta]:
        """Stream the answer; closing the iterator stops it. Raises `ServiceError` with a message that says what to do
        next."""
        ...


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that was made. `prompt`: what it was really made from, where the service changed it. `frames`: PNGs of
    what it would have been after each step, where they were asked for."""

    data: bytes = field(repr=False)
    media_type: str = "image/png"
    prompt: str = ""
    frames: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """How a picture shall be; what is empty or None is left to the model, and a model ignores what it cannot do.

    `seed`: the same one gives the same pictures on one machine, and several pictures take the seeds after it. `steps`
    of denoising; `guidance`: how closely to follow the prompt, 1 for no more than it learnt to. `frames`: also show
    what the picture would be after each step.
    """

    count: int = 1
    size: str = ""                 # "1024x1024"
    quality: str = ""
    style: str = ""
    background: str = ""
    output_format: str = ""
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    frames: bool = False


@runtime_checkable
class ImageGenerator(Protocol):
    """A description to pictures."""

    @property
    def name(self) -> str: ...

    def draw(self, prompt: str, options: DrawOptions | None = None) -> list[Drawing]:
        """As many pictures as `options.count` says. Raises `ServiceError` with a message that says what to do next."""
        ...


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence picked from passage number `passage` (0-based): text[start:end] of that passage."""

    passage: int
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader found. `answered` is False when `score` is below the calibrated `threshold`."""

    evidence: list[Evidence]
    score: float
    threshold: float

    @property
    def answered(self) -> bool:
        return bool(self.evidence) and self.score >= self.threshold


@runtime_checkable
class Reader(Protocol):
    """An extractive reader: question and passages to the sentences that answer."""

    @property
    def name(self) -> str: ...

    def read(self, question: str, passages: Sequence[Passage]) -> Reading: ...


@runtime_checkable
class Reranker(Protocol):
    """A question and documents to how well each answers it."""

    @property
    def name(self) -> str: ...

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """float64 (n,), in the order of `documents`; higher is better. They may be comparable within one call only."""
        ...


class Provider(Protocol):
    """A family of models, registered under the entry point group `madang.providers`.

    A model is named "PROVIDER/MODEL" or, for a configured service, "SERVICE/MODEL". One that has no models of pictures
    and texts may lack `image_embedder`.
    """

    def models(self) -> list[str]:
        """Names of the models it can offer without asking anyone; may be empty."""
        ...

    def embedder(self, model: str) -> Embedder: ...

    def image_embedder(self, model: str) -> ImageEmbedder: ...

    def chat_model(self, model: str) -> ChatModel: ...

    def reader(self, model: str) -> Reader: ...

    def reranker(self, model: str) -> Reranker: ...

    def image_generator(self, model: str) -> ImageGenerator: ...
