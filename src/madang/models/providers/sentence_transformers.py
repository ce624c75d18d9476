"""Embedders and rerankers that run in this process, with the sentence-transformers library.

"sentence_transformers/intfloat/multilingual-e5-small", or a folder: "sentence_transformers/./my-model". No code that
comes with a model is run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder, SentenceTransformer

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.settings import Local
from madang.models.folder import checked_texts
from madang.models.protocol import (
    ChatModel,
    Embedder,
    EmbedKind,
    ImageGenerator,
    Progress,
    Reader,
    Reranker,
    Vectors,
)
from madang.models.providers import weights

_T = TypeVar("_T")
_WINDOW = 8        # batches encoded in one call, which sorts them by length; bounds what is between two reports
_HOME = "sentence_transformers"


class SentenceTransformersProvider:
    """Loads with first use; a model is kept for the life of the workspace."""

    in_process = True      # takes no service: see `madang.models.resolve`

    def __init__(self, local: Local | None = None) -> None:
        self._local = local or Local()

    def models(self) -> list[str]:
        """Nothing: any folder and any name of the hub may be one."""
        return []

    def embedder(self, model: str) -> Embedder:
        """See `weights.folder_of` for names and errors."""
        return SentenceTransformerEmbedder(model, self._local)

    def reranker(self, model: str) -> Reranker:
        """A cross-encoder with one output."""
        return CrossEncoderReranker(model, self._local)

    def chat_model(self, model: str) -> ChatModel:
        """Always raises `NotFound`: these do not chat."""
        raise NotFound(f"{_HOME}/{model} does not chat.", remedy=f'Chat models are called "transformers/{model}".')

    def reader(self, model: str) -> Reader:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} is no extractive reader.", remedy='Use "bundled/reader".')

    def image_generator(self, model: str) -> ImageGenerator:
        """Always raises `NotFound`."""
        raise NotFound(f"{_HOME}/{model} does not draw.", remedy=f'Models that draw are called "diffusers/{model}".')


class _Loaded:
    """A model that is loaded when it is first needed. One thread computes at a time: the cores are busy anyway, and
    tokenizers may not be shared."""

    def __init__(self, model: str, local: Local) -> None:
        self.model, self.local = model, local
        self.lock = threading.RLock()
        self._folder: Path | None = None
        self._signature = ""

    @property
    def name(self) -> str:
        return f"{_HOME}/{self.model}"

    @property
    def folder(self) -> Path:
        with self.lock:
            if self._folder is None:
                self._folder = weights.folder_of(self.model, download=self.local.download)
            return self._folder

    @property
    def signature(self) -> str:
        """The name and twelve digits of the digest of the files."""
        with self.lock:
            if not self._signature:
                self._signature = f"{self.name}@{weights.digest(self.folder)[:12]}"
            return self._signature

    def load(self, kind: Callable[..., _T]) -> _T:
        """Raises `Corrupt` where the folder holds no such model."""
        try:
            return kind(str(self.folder), device=self.local.device or None, local_files_only=True,
                        model_kwargs={"use_safetensors": True})
        except Exception as error:      # libraries under it raise errors of their own
            why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
            raise Corrupt(f"{self.name} cannot be loaded from {self.folder}: {why}.",
                          remedy="See whether it is a model of this kind, and complete.") from error


class SentenceTransformerEmbedder(_Loaded):
    """An `Embedder`. Queries and documents get the instruction that the model was trained with, where it has one."""

    _encoder: SentenceTransformer | None = None
    _dim = 0
    languages = frozenset[str]()
    dense_weight = 1.0

    @property
    def encoder(self) -> SentenceTransformer:
        with self.lock:
            if self._encoder is None:
                self._encoder = self.load(SentenceTransformer)
            return self._encoder

    @property
    def dim(self) -> int:
        with self.lock:
            if not self._dim:
                told = self.encoder.get_embedding_dimension()
                self._dim = int(told or self._encode(["dimension"], "document").shape[1])
            return self._dim

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`; longer texts are cut where the model's window ends.

        Raises:
            InvalidInput: an item is not a string. Corrupt: the model gives values that are not numbers.
        """
        kept = checked_texts(texts)
        found = np.empty((len(kept), self.dim), np.float32)
        size = self.local.batch * _WINDOW
        for start in range(0, len(kept), size):
            part = self._encode(kept[start:start + size], kind)
            found[start:start + len(part)] = part
            if progress is not None:
                progress(len(part))
        return found

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `CountsTokens`."""
        kept, tokenizer = checked_texts(texts), self.encoder.tokenizer
        if not kept:
            return []
        with self.lock:
            if hasattr(tokenizer, "encode_batch_fast"):       # of a static embedding
                return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(kept)]
            return [len(ids) for ids in tokenizer(kept, truncation=False, verbose=False)["input_ids"]]

    def _encode(self, texts: list[str], kind: EmbedKind) -> Vectors:
        with self.lock:
            encode = self.encoder.encode_query if kind == "query" else self.encoder.encode_document
            raw = np.asarray(encode(texts, batch_size=self.local.batch, show_progress_bar=False,
                                    convert_to_numpy=True), np.float64)
        if not np.isfinite(raw).all():
            raise Corrupt(f"{self.name} gives values that are not numbers.", remedy="Download the model again.")
        length = np.linalg.norm(raw, axis=1, keepdims=True)
        raw[length[:, 0] == 0] = 1 / np.sqrt(raw.shape[1])      # a text without tokens: where all entries are equal
        return np.asarray(raw / np.where(length == 0, 1, length), np.float32)


class CrossEncoderReranker(_Loaded):
    """A `Reranker` that reads question and document together. Scores of different calls may be compared."""

    _encoder: CrossEncoder | None = None

    @property
    def encoder(self) -> CrossEncoder:
        """Raises `InvalidInput` for a model with several outputs: it sorts into classes."""
        with self.lock:
            if self._encoder is None:
                loaded = self.load(CrossEncoder)
                if loaded.num_labels != 1:
                    raise InvalidInput(f"{self.name} has {loaded.num_labels} outputs, so it sorts into classes.",
                                       remedy="A reranker has one: name a cross-encoder that was trained to rank.")
                self._encoder = loaded
            return self._encoder

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float64]:
        """See `Reranker.rerank`.

        Raises:
            InvalidInput: an item is not a string. Corrupt: the model gives values that are not numbers.
        """
        asked, texts = checked_texts([query])[0], checked_texts(documents)
        if not texts:
            return np.empty(0)
        with self.lock:
            raw: Any = self.encoder.predict([(asked, text) for text in texts], batch_size=self.local.batch,
                                            show_progress_bar=False, convert_to_numpy=True)
        scores = np.asarray(raw, np.float64).reshape(len(texts))
        if not np.isfinite(scores).all():
            raise Corrupt(f"{self.name} gives values that are not numbers.", remedy="Download the model again.")
        return scores
