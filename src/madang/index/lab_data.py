"""What the lab measures on: data sets made here, or vectors of the user's own, and queries that are not among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from madang.base.errors import InvalidInput
from madang.index.distance import as_vectors, check_metric
from madang.index.protocol import Metric, Vectors

SIZE = 20_000          # vectors of a built-in set, unless larger sizes are asked for
_FEWEST = 20           # vectors from which a study says anything
_BLOCK = 2048          # vectors made at a time: what is needed on the way is many times their size
_Make = Callable[[int, np.random.Generator], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Data:
    """Vectors to index (n, dim), queries (q, dim) that are not among them, and where both come from."""

    name: str
    about: str                # the vectors, in a sentence
    queries_about: str        # the queries, in a sentence
    metric: Metric
    vectors: Vectors
    queries: Vectors
    fingerprint: str          # of the vectors before queries were held out, and of the metric
    queries_fingerprint: str

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])


def built_in(name: str, queries: int = 200, size: int = SIZE, metric: str | None = None) -> Data:
    """A data set made from random numbers, the same ones every time. Raises InvalidInput for an unknown name."""
    if name not in BUILT_IN:
        raise InvalidInput(f"data {name!r} is unknown.", remedy=f"Choose one of {', '.join(BUILT_IN)}.")
    about, usual, make = BUILT_IN[name]
    chosen = check_metric(usual if metric is None else metric)
    vectors = _in_blocks(make, size, seed=1)
    asked = _in_blocks(make, _queries(queries), seed=2)  # another seed: drawn alike, not drawn from them
    return Data(name, about, "drawn like the vectors, and not among them", chosen, vectors, asked,
                _fingerprint(vectors, chosen), _fingerprint(asked))


def own(name: str, vectors: Vectors, metric: str, queries: int = 200, given: Vectors | None = None) -> Data:
    """Vectors of the user's own (n, dim).

    `given` queries (q, dim) are the best ones to measure with. Without, some of the vectors are held out, the same
    ones every time: at most a fifth. The others come in an order of chance, so that the first n of them are a sample.

    Raises InvalidInput for too few vectors, another shape or width, NaN and infinity.
    """
    chosen = check_metric(metric)
    vectors = as_vectors(vectors, None, "vectors")
    if len(vectors) < _FEWEST:
        raise InvalidInput(f"{name} holds {len(vectors)} vectors; a study needs at least {_FEWEST}.",
                           remedy="Ingest more, or measure on built-in data: --data clustered.")
    _check_finite(vectors, "vectors")
    order = np.random.default_rng(0).permutation(len(vectors))
    if given is None:
        count = min(_queries(queries), len(vectors) // 5)
        asked, order = np.ascontiguousarray(vectors[np.sort(order[:count])]), order[count:]
        about = (f"{count:,} of the vectors, held out. Real queries are often shorter or worded differently, and lie "
                 "farther from the vectors: give yours with --queries-file")
    else:
        asked = as_vectors(given, vectors.shape[1], "queries")[:_queries(queries)]
        _check_finite(asked, "queries")
        if len(asked) == 0:
            raise InvalidInput("queries holds no vector.", remedy="Give at least one, better 200.")
        about = f"{len(asked):,} given ones"
    return Data(name, f"{len(vectors):,} vectors of {name}", about, chosen, np.ascontiguousarray(vectors[order]), asked,
                _fingerprint(vectors, chosen), _fingerprint(asked))


def read_queries(path: str | Path) -> Vectors:
    """Query vectors (q, dim) from a .npy file. Raises InvalidInput for anything else."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no .npy file"
        raise InvalidInput(f"queries file {path} cannot be read: {reason}.",
                           remedy="Write it with numpy.save(path, queries), float32 of shape (q, dim).") from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        raise InvalidInput(f"queries file {path} holds no table of numbers.",
                           remedy="Write it with numpy.save(path, queries), float32 of shape (q, dim).")
    return np.ascontiguousarray(found, dtype=np.float32)


def _queries(count: int) -> int:
    if count < 2:
        raise InvalidInput(f"queries must be at least 2, got {count}.", remedy="200 give a usable interval.")
    return count


def _check_finite(vectors: Vectors, name: str) -> None:
    if not np.isfinite(vectors).all():
        raise InvalidInput(f"{name} holds NaN or infinity.", remedy="Leave such vectors out.")


def _fingerprint(vectors: Vectors, metric: str = "") -> str:
    """16 hexadecimal digits that tell these vectors from others."""
    digest = xxhash.xxh3_64(f"{metric} {vectors.shape}".encode())
    digest.update(np.ascontiguousarray(vectors, dtype="<f4").data)
    return digest.hexdigest()


def _in_blocks(make: _Make, n: int, seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    parts = [make(min(_BLOCK, n - start), rng) for start in range(0, n, _BLOCK)]
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)


# The sets

def _clustered(n: int, rng: np.random.Generator) -> NDArray[Any]:
    """Like embeddings of text: topics of unequal size, and within each a few directions that matter."""
    topics, dim, rank = 256, 96, 24
    fixed = np.random.default_rng(0)
    centres = 0.5 * fixed.standard_normal((topics, dim))
    directions = fixed.standard_normal((topics, rank, dim)) / np.sqrt(rank)
    share = 1 / np.arange(1, topics + 1) ** 0.7
    topic = rng.choice(topics, n, p=share / share.sum())
    within: NDArray[Any] = np.einsum("nr,nrd->nd", rng.standard_normal((n, rank)), directions[topic])
    noise: NDArray[Any] = rng.standard_normal((n, dim))
    vectors: NDArray[Any] = centres[topic] + 0.9 * within + 0.3 * noise
    return vectors


def _uniform(n: int, rng: np.random.Generator) -> NDArray[Any]:
    """No structure at all: everything is about as far from everything, the hardest case for any index."""
    return rng.uniform(-1, 1, (n, 32))


_SEGMENTS = {  # of a digital clock: middle x, middle y, half width, half height
    "a": (0, -1, 0.5, 0), "b": (0.5, -0.5, 0, 0.5), "c": (0.5, 0.5, 0, 0.5), "d": (0, 1, 0.5, 0),
    "e": (-0.5, 0.5, 0, 0.5), "f": (-0.5, -0.5, 0, 0.5), "g": (0, 0, 0.5, 0)}
_DIGITS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abfgcd")


def _digits(n: int, rng: np.random.Generator) -> NDArray[Any]:
    """Pictures of digits, 16 x 16 pixels: written slanted, shifted, in other sizes and with thicker or thinner pens."""
    y, x = (axis.reshape(1, -1) for axis in np.mgrid[-1.5:1.5:16j, -1.5:1.5:16j])
    shift, slant = rng.normal(0, 0.15, (2, n, 1)), rng.normal(0, 0.2, (n, 1))
    size, pen = rng.normal(1, 0.12, (2, n, 1)), rng.uniform(0.12, 0.3, (n, 1))
    across, down = (x - shift[0] + slant * y) / size[0], (y - shift[1]) / size[1]
    digit = rng.integers(0, 10, n)
    nearest = np.full((n, 256), np.inf)
    for name, (mid_x, mid_y, half_x, half_y) in _SEGMENTS.items():
        mine = np.array([name in strokes for strokes in _DIGITS])[digit]
        away = np.hypot(np.maximum(np.abs(across[mine] - mid_x) - half_x, 0),
                        np.maximum(np.abs(down[mine] - mid_y) - half_y, 0))
        nearest[mine] = np.minimum(nearest[mine], away)
    pixels: NDArray[Any] = np.exp(-(nearest / pen) ** 2) + rng.normal(0, 0.03, (n, 256))
    return pixels


BUILT_IN: dict[str, tuple[str, Metric, _Make]] = {
    "clustered": ("256 topics of unequal size in 96 dimensions, like embeddings of text", "cosine", _clustered),
    "uniform": ("random points in a cube of 32 dimensions: no structure, the hardest case", "euclidean", _uniform),
    "digits-like": ("pictures of digits, 16 x 16 pixels", "euclidean", _digits),
}
