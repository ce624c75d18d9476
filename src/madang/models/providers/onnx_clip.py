"""Embeds pictures and texts with a CLIP saved as two ONNX graphs, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.models.folder import ModelFolder, checked_texts
from madang.models.pictures import PictureSettings, prepared
from madang.models.protocol import EmbedKind, Picture, Progress, Vectors
from madang.models.providers.onnx_session import default_threads, load

VISION = ("onnx/vision_int8.onnx", "onnx/vision.onnx", "onnx/vision_model.onnx")
TEXT = ("onnx/text_int8.onnx", "onnx/text.onnx", "onnx/text_model.onnx")
_PICTURES, _TEXTS = 4, 16       # in one call of a graph: what is computed in between stays in the cache
_T = TypeVar("_T")


class OnnxClip:
    """Pictures and texts to unit vectors of one space. Loads on first use; threads may share an instance.

    Texts of one call that have equally many tokens run together, so that nothing is padded. `precision`: "int8", or
    "fp32" where the folder has it.
    """

    def __init__(
        self, folder: Path, *, name: str | None = None, threads: int | None = None, precision: str = "int8"
    ) -> None:
        """Raises `NotFound` where a file is missing, `Corrupt` where config.json cannot be read."""
        at = 0 if precision == "int8" else 1
        self._vision = ModelFolder(folder, VISION[at:], name)
        self._text = ModelFolder(folder, TEXT[at:], name)
        self._threads = threads or default_threads()
        self._lock = threading.Lock()
        self._sessions: tuple[Any, Any] | None = None
        self._tokenizer: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._signature: str | None = None
        config = self._vision.config
        self.max_tokens = int(config.get("text_config", {}).get("max_position_embeddings", 77))
        self.settings = PictureSettings.of(
            self._vision.json("preprocessor_config.json") or self._vision.json("processor_config.json")
        )
        self.scale = float(config.get("madang", {}).get("scale", 100.0))

    @property
    def name(self) -> str:
        return self._vision.name

    @property
    def signature(self) -> str:
        """The name and twelve digits of the digest of both graphs, as stored when it was made if it was."""
        if self._signature is None:
            stored = self._vision.config.get("madang", {}).get("sha256")
            found = stored or hashlib.sha256(f"{self._vision.digest()} {self._text.digest()}".encode()).hexdigest()
            self._signature = f"{self.name}@{found[:12]}"
        return self._signature

    @property
    def dim(self) -> int:
        return int(self._vision.config.get("projection_dim") or self._loaded()[0].get_outputs()[0].shape[-1])

    @property
    def languages(self) -> frozenset[str]:
        return self._vision.languages

    @property
    def dense_weight(self) -> float:
        return self._vision.dense_weight

    def _loaded(self) -> tuple[Any, Any]:
        with self._lock:
            if self._sessions is None:
                self._tokenizer = self._text.tokenizer(self.max_tokens)
                self._sessions = load(self._vision.weights), load(self._text.weights)
                self._pool = ThreadPoolExecutor(self._threads, "see") if self._threads > 1 else None
            return self._sessions

    def embed(self, texts: Sequence[str], kind: EmbedKind = "query", progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`; `kind` makes no difference. Longer texts than the model takes are cut.

        Raises `InvalidInput` for what is no string, `Corrupt` where a model file is damaged.
        """
        kept = checked_texts(texts)
        session = self._loaded()[1]
        inputs = {each.name: each.shape for each in session.get_inputs()}
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(kept)]
        whole = inputs["input_ids"][1]
        if isinstance(whole, int):              # SigLIP was trained with texts of one length, padding and all
            ids = [[*each, *[self._padding()] * (whole - len(each))][:whole] for each in ids]
        lengths = np.array([len(each) for each in ids], dtype=np.int64)
        groups = [
            rows[start : start + _TEXTS]
            for length in np.unique(lengths)
            for rows in [np.flatnonzero(lengths == length)]
            for start in range(0, len(rows), _TEXTS)
        ]

        def run(rows: NDArray[np.intp]) -> Vectors:
            tokens = np.array([ids[row] for row in rows], np.int64)
            feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
            found = _run(session, {name: value for name, value in feed.items() if name in inputs}, self._text)
            if progress is not None:
                progress(len(rows))
            return found

        vectors = np.empty((len(kept), self.dim), np.float32)
        for rows, found in zip(groups, self._mapped(run, groups), strict=True):
            vectors[rows] = found
        return vectors

    def _padding(self) -> int:
        """The token that short texts are filled with."""
        named = self._text.json("tokenizer_config.json").get("pad_token", "")
        token = named.get("content", "") if isinstance(named, dict) else named
        return int(self._tokenizer.token_to_id(token) or 0)

    def embed_images(self, pictures: Sequence[Picture]) -> Vectors:
        """See `SeesAndReads.embed_images`. Raises `InvalidInput` for what is no RGB picture."""
        session = self._loaded()[0]
        (wanted,) = (each.name for each in session.get_inputs())
        if not len(pictures):
            return np.empty((0, self.dim), np.float32)
        cuts = [*range(0, len(pictures), _PICTURES), len(pictures)]

        def run(span: tuple[int, int]) -> Vectors:
            return _run(session, {wanted: prepared(pictures[span[0] : span[1]], self.settings)}, self._vision)

        return np.concatenate(list(self._mapped(run, list(pairwise(cuts)))))

    def _mapped(self, run: Callable[[Any], _T], work: Sequence[Any]) -> list[_T]:
        if self._pool is None or len(work) <= 1:
            return [run(each) for each in work]
        return list(self._pool.map(run, work))


def _run(session: Any, feed: dict[str, NDArray[Any]], folder: ModelFolder) -> Vectors:
    found = session.run(None, feed)[0].astype(np.float32, copy=False)
    if not np.isfinite(found).all():
        raise InvalidInput(
            f"{folder.weights} gives values that are not numbers.",
            remedy="Export the model again, or use another precision of it.",
        )
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.maximum(length, 1e-12), np.float32)
