"""Embeds with a BERT-like sentence transformer saved as ONNX, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import Corrupt
from madang.models.folder import ModelFolder, checked_texts
from madang.models.protocol import EmbedKind, Progress, Vectors
from madang.models.providers.onnx_session import default_threads, load

WEIGHTS = ("onnx/model_int8.onnx", "onnx/model_quantized.onnx", "onnx/model.onnx", "model.onnx")
BATCH_TOKENS = 1024     # the best of 256 to 4096 as measured; the loss is within 12% over the whole range
WINDOW = 4096           # texts tokenised at a time; bounds memory, not speed

Feed: TypeAlias = dict[str, NDArray[np.int64]]
Rows: TypeAlias = NDArray[np.intp]


class OnnxEmbedder:
    """Texts to the pooled, normalised output of the model in a folder; longer texts are cut.

    A batch holds only texts of the same number of tokens. Nothing is padded, so no work is wasted and a text's
    vector does not depend on its neighbours (unless the model itself quantises activations per batch, as ONNX
    Runtime's "dynamic" quantisation does; the bundled model does not).

    Batches run side by side, each on one core. Sharing every batch among the cores, as ONNX Runtime does by default,
    measured a tenth slower on idle cores, and at half the speed of one thread when another process needs a core.

    Loads on first use. Threads may share an instance.
    """

    def __init__(self, folder: Path, *, name: str | None = None, threads: int | None = None) -> None:
        """`threads` is the number of batches at a time: default OMP_NUM_THREADS, else the cores we may use.

        Raises:
            NotFound: a file is missing.
            Corrupt: config.json cannot be read.
        """
        self._folder = ModelFolder(folder, WEIGHTS, name)
        self._threads = threads or default_threads()
        self._lock = threading.Lock()
        self._session: Any = None
        self._tokenizer: Any = None
        self._pool: ThreadPoolExecutor | None = None
        limits = [self._folder.json("sentence_bert_config.json").get("max_seq_length"),
                  self._folder.config.get("max_position_embeddings", 512)]
        self.max_tokens: int = min(limit for limit in limits if isinstance(limit, int))
        self._first_token = bool(self._folder.json("1_Pooling/config.json").get("pooling_mode_cls_token"))

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def signature(self) -> str:
        return self._folder.signature

    @property
    def dim(self) -> int:
        known = self._folder.config.get("hidden_size")
        return int(known) if known else int(self.session.get_outputs()[0].shape[-1])

    @property
    def languages(self) -> frozenset[str]:
        return self._folder.languages

    @property
    def dense_weight(self) -> float:
        return self._folder.dense_weight

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `CountsTokens`."""
        return self._folder.count_tokens(texts)

    @property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`. Raises `Corrupt` if the weights cannot be loaded."""
        with self._lock:
            if self._session is None:
                self._tokenizer = self._folder.tokenizer(self.max_tokens)
                self._session = load(self._folder.weights)
                self._pool = ThreadPoolExecutor(self._threads, "embed") if self._threads > 1 else None
            return self._session

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`; `kind` makes no difference. An empty text has the vector of the empty sentence.

        Raises:
            InvalidInput: an item is not a string.
            Corrupt: a model file is damaged.
        """
        kept = checked_texts(texts)
        vectors = np.empty((len(kept), self.dim), np.float32)
        for start in range(0, len(kept), WINDOW):
            for rows, found in self._computed(kept[start:start + WINDOW]):
                vectors[rows + start] = found
                if progress is not None:
                    progress(len(rows))
        return vectors

    def batches(self, texts: Sequence[str]) -> list[Feed]:
        """What `embed` gives to the session for these texts, batch by batch; for benchmarks."""
        return [feed for _, feed in self._batched(checked_texts(texts))]

    def _computed(self, texts: list[str]) -> Iterator[tuple[Rows, Vectors]]:
        """Rows of `texts` and their vectors, as batches finish."""
        batches = self._batched(texts)
        if self._pool is None or len(batches) == 1:     # a query needs no other thread
            for rows, feed in batches:
                yield rows, self._run(feed)
            return
        running = {self._pool.submit(self._run, feed): rows for rows, feed in reversed(batches)}  # longest first
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        finally:
            for future in running:      # after an error or an interruption nobody wants the rest
                future.cancel()

    def _batched(self, texts: list[str]) -> list[tuple[Rows, Feed]]:
        """Rows of `texts` with equally many tokens, at most `BATCH_TOKENS` together, and their feed; shortest first."""
        names = [value.name for value in self.session.get_inputs()]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        lengths = np.array([len(tokens) for tokens in ids])
        found = []
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            size = max(1, BATCH_TOKENS // max(1, int(length)))
            for first in range(0, len(rows), size):
                chosen = rows[first:first + size]
                found.append((chosen, _feed([ids[row] for row in chosen], names)))
        return found

    def _run(self, feed: Feed) -> Vectors:
        outputs = {value.name for value in self.session.get_outputs()}
        wanted = "sentence_embedding" if "sentence_embedding" in outputs else self.session.get_outputs()[0].name
        found = self.session.run([wanted], feed)[0]
        if found.ndim == 3:  # (texts, tokens, dim): nothing is padded, so the mean needs no mask
            found = found[:, 0] if self._first_token else found.mean(axis=1)
        pooled = found.astype(np.float32, copy=False)
        if not np.isfinite(pooled).all():
            raise Corrupt(f"{self._folder.weights} gives values that are not numbers.",
                          remedy="Download the model again, or use another precision of it.")
        length = np.linalg.norm(pooled, axis=1, keepdims=True)
        return np.asarray(pooled / np.maximum(length, 1e-12), np.float32)


def _feed(ids: list[list[int]], names: Sequence[str]) -> Feed:
    tokens = np.array(ids, np.int64)
    feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
    return {name: value for name, value in feed.items() if name in names}
