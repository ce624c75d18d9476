"""Embeds with a table of token vectors (model2vec): a text is the mean of its tokens' rows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.models.folder import ModelFolder, checked_texts
from madang.models.protocol import EmbedKind, Progress, Vectors

WEIGHTS = ("model.safetensors", "0_StaticEmbedding/model.safetensors")
WINDOW = 1024           # texts tokenised at a time; also how often progress is told
BLOCK = 8192            # tokens whose rows are gathered at a time: bounds the memory that a huge text takes


class StaticEmbedder:
    """Texts to the normalised mean of their tokens' rows, in the order-blind way of a bag of words.

    Reads any model2vec folder: a table "embeddings" (tokens, dim) in int8, float16 or float32, and optionally
    "weights" (a factor per token) and "mapping" (token to row). A text without a known token has no direction;
    it gets the fixed unit vector whose entries are all equal.

    Loads on first use. Threads may share an instance.
    """

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        """Raises:
            NotFound: a file is missing.
            Corrupt: config.json cannot be read.
        """
        self._folder = ModelFolder(folder, WEIGHTS, name)
        self._lock = threading.Lock()
        self._loaded: tuple[Any, NDArray[np.float32]] | None = None

    @property
    def name(self) -> str:
        return self._folder.name

    @property
    def signature(self) -> str:
        return self._folder.signature

    @property
    def dim(self) -> int:
        known = self._folder.config.get("hidden_dim")
        return int(known) if known else self._load()[1].shape[1]

    @property
    def languages(self) -> frozenset[str]:
        return self._folder.languages

    @property
    def dense_weight(self) -> float:
        return self._folder.dense_weight

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See `CountsTokens`."""
        return self._folder.count_tokens(texts)

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        """See `Embedder.embed`; `kind` makes no difference.

        Raises:
            InvalidInput: an item is not a string.
            Corrupt: a model file is damaged.
        """
        kept = checked_texts(texts)
        tokenizer, table = self._load()
        vectors = np.empty((len(kept), table.shape[1]), np.float32)
        for start in range(0, len(kept), WINDOW):
            window = kept[start:start + WINDOW]
            encoded = tokenizer.encode_batch_fast(window, add_special_tokens=False)
            vectors[start:start + len(window)] = _means([encoding.ids for encoding in encoded], table)
            if progress is not None:
                progress(len(window))
        return vectors

    def _load(self) -> tuple[Any, NDArray[np.float32]]:
        """The tokenizer and the float32 table (tokens, dim) with every factor in it; unknown tokens are zero."""
        with self._lock:
            if self._loaded is None:
                tokenizer = self._folder.tokenizer(self._folder.config.get("max_length", 512))
                table = _table(self._folder.weights)
                unknown = getattr(tokenizer.model, "unk_token", None)
                id_ = tokenizer.token_to_id(unknown) if unknown else None
                if tokenizer.get_vocab_size() > len(table):
                    raise ModelFolder.damaged(self._folder.weights, f"it has {len(table)} rows for "
                                              f"{tokenizer.get_vocab_size()} tokens")
                if id_ is not None:
                    table[id_] = 0
                self._loaded = tokenizer, table
            return self._loaded


def _table(path: Path) -> NDArray[np.float32]:
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        rows = tensors["embeddings"] if "embeddings" in tensors else tensors["embedding.weight"]
        if "mapping" in tensors:
            rows = rows[tensors["mapping"]]
        table = rows.astype(np.float32)
        if "weights" in tensors:
            table *= tensors["weights"].astype(np.float32)[:, None]
    except Exception as error:  # safetensors raises types of its own, per version
        raise ModelFolder.damaged(path, error) from error
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ModelFolder.damaged(path, "the embeddings are not a table of numbers")
    return table


def _means(ids: Sequence[Sequence[int]], table: NDArray[np.float32]) -> Vectors:
    """The direction of the sum of each list's rows: (lists, dim).

    One text at a time: its rows fit the cache, and one `reduceat` over all texts measured 6 to 26 times slower.
    `reduce` and not a BLAS product, whose order of summation may depend on the number of threads.
    """
    sums = np.zeros((len(ids), table.shape[1]), np.float32)
    for row, tokens in enumerate(ids):
        for start in range(0, len(tokens), BLOCK):
            sums[row] += np.add.reduce(table.take(tokens[start:start + BLOCK], axis=0), axis=0)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    nowhere = length[:, 0] < 1e-12
    sums[nowhere], length[nowhere] = 1, np.sqrt(table.shape[1])
    return np.asarray(sums / length, np.float32)
