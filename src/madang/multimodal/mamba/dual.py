"""The block of Mamba-2, written to be read (Dao and Gu 2024, "Transformers are SSMs", sections 5 to 7).

Mamba-2 gives each head a single number for A in place of a matrix, and all heads the same B and C. The recurrence

    h[t] = exp(d[t] A) h[t-1] + d[t] B[t] x[t],        y[t] = C[t] h[t] + D x[t]

then is, written out, a product of a lower triangular matrix with the tokens,

    y[t] = sum over s <= t of  (C[t] . B[s])  exp(A (d[s+1] + ... + d[t]))  d[s] x[s]   +   D x[t],

which is attention without softmax: C asks, B answers, x is the value, and what lies between two tokens fades one from
the other. That is the duality of the title. Computed as attention the time grows with the square of the length;
computed as a recurrence it grows with the length, but there are no products of matrices in it, which is what machines
are fast at. So both (section 6): attention within chunks, and the recurrence from chunk to chunk.

Names of weights are those of transformers' `Mamba2Mixer`, so that either reads what the other learnt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, rms_norm, silu, softplus


def scan(x: Tensor, d: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The recurrence, one by one. x (batch, length, heads, width), d (batch, length, heads), a (heads), b and c
    (batch, length, states); returns y without D x, like x."""
    state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], b.shape[2])
    found = []
    for t in range(x.shape[1]):
        new = torch.einsum("bhp,bn->bhpn", d[:, t, :, None] * x[:, t], b[:, t])
        state = torch.exp(d[:, t] * a)[..., None, None] * state + new
        found.append(torch.einsum("bhpn,bn->bhp", state, c[:, t]))
    return torch.stack(found, 1)


def scan_in_chunks(x: Tensor, d: Tensor, a: Tensor, b: Tensor, c: Tensor, size: int = 32) -> Tensor:
    """The same, as attention within chunks of `size` tokens and the recurrence between them."""
    length = x.shape[1]
    x, d, b, c = (_chunks(each, size) for each in ((x * d[..., None]).to(x.dtype), d, b, c))  # x is d x from here on
    faded = (d * a).cumsum(2)  # (batch, chunks, size, heads): how much, as an exponent, since the chunk began
    by_head = faded.transpose(2, 3)
    between = by_head[..., :, None] - by_head[..., None, :]  # from s to t, (batch, chunks, heads, t, s)
    earlier = torch.ones(size, size, dtype=torch.bool, device=x.device).tril()
    fades = torch.exp(between.masked_fill(~earlier, -torch.inf))
    within = fades * torch.einsum("bktn,bksn->bkts", c, b)[:, :, None]
    y = torch.einsum("bkhts,bkshp->bkthp", within, x)
    # What each chunk adds to the state, and what is left of it when later ones read it.
    added = torch.einsum("bksn,bkshp->bkhpn", b, torch.exp(faded[:, :, -1:] - faded)[..., None] * x)
    state, before = torch.zeros_like(added[:, 0]), []
    for chunk in range(x.shape[1]):
        before.append(state)
        state = torch.exp(faded[:, chunk, -1])[..., None, None] * state + added[:, chunk]
    y = y + torch.einsum("bktn,bkhpn->bkthp", c, torch.stack(before, 1)) * torch.exp(faded)[..., None]
    return y.flatten(1, 2)[:, :length]


def _chunks(each: Tensor, size: int) -> Tensor:
    """(batch, length, ...) to (batch, chunks, size, ...), with zeros at the end: a step of length 0 changes nothing."""
    missing = -each.shape[1] % size
    return pad(each, (0, 0) * (each.ndim - 2) + (0, missing)).unflatten(1, (-1, size))


class DualBlock(nn.Module):  # type: ignore[misc]
    """A layer: (batch, length, hidden) to the same.

    One projection makes all at once: the gate, the tokens, B, C and the steps (figure 6, "parallel" block); tokens, B
    and C go through a short convolution.
    """

    def __init__(
        self, hidden: int, *, heads: int, width: int, states: int = 32, kernel: int = 4, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.heads, self.width, self.states, self.eps = heads, width, states, eps
        inner = heads * width
        self.parts = (inner, inner, states, states, heads)  # gate, x, b, c, d
        self.in_proj = nn.Linear(hidden, sum(self.parts), bias=False)
        mixed = inner + 2 * states
        self.conv1d = nn.Conv1d(mixed, mixed, kernel, groups=mixed, padding=kernel - 1)
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.A_log = nn.Parameter(torch.arange(1, heads + 1).float().log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = _Scale(inner)
        self.out_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, tokens: Tensor, **_: Any) -> Tensor:
        """All tokens at once. Further arguments, of which transformers passes some, are those of its absent cache."""
        inner = self.parts[0]
        gate, mixed, d = self.in_proj(tokens).split((inner, inner + 2 * self.states, self.heads), -1)
        mixed = silu(self.conv1d(mixed.transpose(1, 2))[..., : tokens.shape[1]]).transpose(1, 2)  # no look ahead
        x, b, c = mixed.split((inner, self.states, self.states), -1)
        x = x.unflatten(-1, (self.heads, self.width))
        steps = softplus(d.float() + self.dt_bias)
        y = scan_in_chunks(x, steps, -torch.exp(self.A_log), b, c) + self.D[:, None] * x
        y = y.flatten(2) * silu(gate)
        return self.out_proj(rms_norm(y.float(), (inner,), self.norm.weight, self.eps).to(tokens.dtype))


class _Scale(nn.Module):  # type: ignore[misc]
    """Holds the weights of the norm, under transformers' name."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
