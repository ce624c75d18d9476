"""Int8 arithmetic of the bundled models, in NumPy alone: how weights and activations become small integers.

A linear layer `y = x @ w + b` runs as unsigned 8-bit activations times signed 8-bit weights:

    q = clamp(round(x * inverse_step) + zero_point, 0, 255)          one step per input channel
    y = (q - zero_point) @ weight * scale + bias                     one scale per output channel

The steps are constants found on calibration texts. They are not measured per batch, as ONNX Runtime's dynamic
quantisation does, because then a text's vector would depend on the texts that happen to share its batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Machines with AVX2 but without VNNI multiply with `vpmaddubsw`, which adds the products of two neighbouring
# input channels in 16 bits and saturates: with weights up to 127, 1 in 5,000 of those sums did, and the output error
# of a layer tripled. Weights up to 100 whose pairs of equal sign stay below 150 practically never saturate (minilm.py
# prints the count) and cost 3 to 18% more error than the full range; 63, the usual remedy, costs 8 to 42%.
WEIGHT_MAX = 100
PAIR_MAX = 150


@dataclass(frozen=True)
class Linear8:
    """A quantised linear layer of `k` inputs and `n` outputs; see the formulas above."""

    inverse_step: Floats            # (k,)
    zero_point: int                 # 0..255
    weight: NDArray[np.int8]        # (k, n)
    scale: Floats                   # (n,)
    bias: Floats                    # (n,)

    def __call__(self, x: Floats) -> Floats:
        """(rows, k) -> (rows, n): the reference for what the graph computes."""
        steps = self.levels(x).astype(np.float32) - self.zero_point
        return (steps @ self.weight.astype(np.float32)) * self.scale + self.bias

    def levels(self, x: Floats) -> NDArray[np.uint8]:
        """The quantised activations `q` of x, both (rows, k)."""
        return np.clip(np.rint(x * self.inverse_step) + self.zero_point, 0, 255).astype(np.uint8)


def rows_to_int8(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """A table (rows, dim) to int8 rows and one float32 scale per row: `table ~ int8 * scale[:, None]`."""
    peak = np.abs(table).max(axis=1)
    scale = np.where(peak > 0, peak / 127, 1).astype(np.float32)
    return np.rint(table / scale[:, None]).astype(np.int8), scale


def channel_steps(low: Floats, high: Floats, weight: Floats, alpha: float, zero: float) -> Floats:
    """The activation step of each input channel (k,), such that [low, high] of every channel is representable.

    `zero` is the fraction of the 256 levels that lies below 0. A channel with large activations gets a large step;
    since the step is multiplied into its row of weights, that only moves the difficulty there. `alpha` says how
    much of it is moved: 1 makes all channels use the full range, 0 equalises the weights
    (SmoothQuant, Xiao et al. 2023, arXiv:2211.10438, equation 4, here with an asymmetric range).
    """
    span = np.maximum(np.maximum(high, 0) / (1 - zero), np.maximum(-low, 0) / zero) + 1e-6
    raw = span**alpha / np.maximum(np.abs(weight).max(axis=1), 1e-6) ** (1 - alpha)
    return (raw * ((span / raw).max() / 255)).astype(np.float32)


def round_weights(weight: Floats, gram: NDArray[np.float64] | None, *, weight_max: int = WEIGHT_MAX,
                  pair_max: int = PAIR_MAX) -> tuple[NDArray[np.int8], Floats]:
    """Weights (k, n) to int8 with a scale per column, rounding so that the *output* error is small.

    Rows are rounded one after the other and each row's error is compensated in those still to come
    (GPTQ, Frantar et al. 2023, arXiv:2210.17323). `gram` is x.T @ x of the layer's inputs (k, k); None rounds
    to nearest. Two rows that `vpmaddubsw` adds (2i, 2i+1) keep the sum of equal signs within `pair_max`.
    """
    k, n = weight.shape
    scale = (np.maximum(np.abs(weight).max(axis=0), 1e-12) / weight_max).astype(np.float32)
    todo = (weight / scale).astype(np.float32)
    done = np.zeros((k, n), np.float32)
    upper = None if gram is None else _inverse_factor(gram)
    for row in range(k):
        least, most = np.full(n, -weight_max, np.float32), np.full(n, weight_max, np.float32)
        if row % 2:
            most = np.minimum(most, pair_max - np.maximum(done[row - 1], 0))
            least = np.maximum(least, np.maximum(-done[row - 1], 0) - pair_max)
        done[row] = np.clip(np.rint(todo[row]), least, most)
        if upper is not None:
            todo[row + 1:] -= np.outer(upper[row, row + 1:], (todo[row] - done[row]) / upper[row, row])
    return done.astype(np.int8), scale


def _inverse_factor(gram: NDArray[np.float64], damping: float = 0.01) -> Floats:
    """The upper Cholesky factor of the inverse of `gram`, damped so that unused channels do not make it singular."""
    k = len(gram)
    inverse = np.linalg.inv(gram + np.eye(k) * (damping * np.trace(gram) / k))
    return np.linalg.cholesky(inverse).T.astype(np.float32)


def quantise_linear(x: Floats, weight: Floats, bias: Floats, *, zeros: tuple[float, ...],
                    alphas: tuple[float, ...] = (0.7, 0.8, 0.9, 1.0), probe: int = 2048) -> Linear8:
    """The int8 twin of `x @ weight + bias` with the least output error on calibration inputs x (rows, k).

    `zeros` and `alphas` are the settings tried (see `channel_steps`), on `probe` evenly spaced rows with weights
    rounded to nearest; the winner's weights are then rounded with compensation, and the mean output error that
    remains goes into the bias.
    """
    low, high = x.min(axis=0), x.max(axis=0)
    few = x[:: max(1, len(x) // probe)]
    want = few @ weight
    best: tuple[float, float, Floats] | None = None
    for zero, alpha in product(zeros, alphas):
        step = channel_steps(low, high, weight, alpha, zero)
        rounded, scale = round_weights(weight * step[:, None], None)
        error = float(np.linalg.norm(_levels(few, step, zero) @ (rounded * scale) - want))
        if best is None or error < best[0]:
            best = (error, zero, step)
    assert best is not None
    _, zero, step = best
    levels = _levels(x, step, zero)
    rounded, scale = round_weights(weight * step[:, None], (levels.T @ levels).astype(np.float64))
    drift = (x @ weight - levels @ (rounded * scale)).mean(axis=0)
    return Linear8((1 / step).astype(np.float32), round(255 * zero), rounded, scale, (bias + drift).astype(np.float32))


def _levels(x: Floats, step: Floats, zero: float) -> Floats:
    """x (rows, k) in steps, rounded and clamped as the graph does, with 0 at 0."""
    zero_point = round(255 * zero)
    return np.clip(np.rint(x / step), -zero_point, 255 - zero_point)


def saturating_matmul(q: NDArray[np.uint8], weight: NDArray[np.int8]) -> tuple[NDArray[np.int64], int]:
    """What `vpmaddubsw` makes of q (rows, k) @ weight (k, n), and how many of its 16-bit sums saturated."""
    total, saturated = np.zeros((len(q), weight.shape[1]), np.int64), 0
    a, w = q.astype(np.int32), weight.astype(np.int32)
    for row in range(0, len(w), 2):
        pair = a[:, row:row + 2] @ w[row:row + 2]
        kept = np.clip(pair, -32768, 32767)
        saturated += int((pair != kept).sum())
        total += kept
    return total, saturated
