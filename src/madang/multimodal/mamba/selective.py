"""The selective state-space block, written to be read (Gu and Dao 2023, "Mamba", sections 2 and 3).

Attention looks back at everything that was read; its memory and its time for a token grow with what came before. A
state-space model carries a state of fixed size instead, h, and for each token x of one channel

    h' = A h + B x          the state changes over time as a linear system does,
    y  = C h + D x          and is read out.

Time comes in steps of length d, which makes of it (discretisation by zero-order hold, equations 2 and 4)

    h[t] = exp(d A) h[t-1] + d B x[t],        y[t] = C h[t] + D x[t].

With A, B, C and d constant that is a convolution, and cannot choose. What makes it selective (section 3.2): B, C and d
are computed from the token. A long step, exp(d A) near 0, forgets what was and takes in the token; a short one,
exp(d A) near 1, lets it pass by. That is no convolution any more, but still a linear recurrence, and such a one can be
computed for all tokens at once in log2(length) rounds (`scan_together`), or one by one with nothing but h to remember
(`step`).

Names of weights are those of transformers' `MambaMixer`, so that either reads what the other learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu, softplus


def discretise(d: Tensor, a: Tensor, b: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """From steps d (batch, length, channels), A (channels, states), B (batch, length, states) and tokens x (batch,
    length, channels) to what the recurrence takes, both (batch, length, channels, states): exp(d A), and d B x.

    For A the hold is exact; for B the first term of its series is taken, as in the authors' code.
    """
    return torch.exp(d[..., None] * a), d[..., None] * b[:, :, None, :] * x[..., None]


def scan(keep: Tensor, new: Tensor, first: Tensor | None = None) -> Tensor:
    """h[t] = keep[t] h[t-1] + new[t], one by one. All (batch, length, channels, states); `first` is h before them."""
    state = torch.zeros_like(new[:, 0]) if first is None else first
    found = []
    for t in range(new.shape[1]):
        state = keep[:, t] * state + new[:, t]
        found.append(state)
    return torch.stack(found, 1)


def scan_together(keep: Tensor, new: Tensor) -> Tensor:
    """The same for all at once, in log2(length) rounds (Hillis and Steele 1986).

    Two steps in a row are one: keep2 (keep1 h + new1) + new2 = (keep2 keep1) h + (keep2 new1 + new2). That joining is
    associative, so after round k each place has joined the 2^k steps up to it.
    """
    length, reach = new.shape[1], 1
    while reach < length:
        # What lies `reach` before; before the beginning there is the step that changes nothing.
        keep_before = pad(keep[:, :-reach], (0, 0, 0, 0, reach, 0), value=1.0)
        new_before = pad(new[:, :-reach], (0, 0, 0, 0, reach, 0))
        keep, new = keep * keep_before, keep * new_before + new
        reach *= 2
    return new


@dataclass
class State:
    """All that a block remembers: the last tokens for the short convolution (batch, channels, kernel - 1), and h
    (batch, channels, states). Its size does not depend on how much was read."""

    tokens: Tensor
    h: Tensor


class SelectiveBlock(nn.Module):  # type: ignore[misc]
    """A layer: (batch, length, hidden) to the same.

    Two copies of the tokens, `expand` times as wide: one goes through a short convolution and the state space, the
    other decides how much of it passes (figure 3).
    """

    def __init__(
        self, hidden: int, *, states: int = 16, kernel: int = 4, expand: int = 2, rank: int | None = None
    ) -> None:
        super().__init__()
        self.channels, self.states, self.kernel = expand * hidden, states, kernel
        self.rank = rank or math.ceil(hidden / 16)
        self.in_proj = nn.Linear(hidden, 2 * self.channels, bias=False)
        self.conv1d = nn.Conv1d(self.channels, self.channels, kernel, groups=self.channels, padding=kernel - 1)
        self.x_proj = nn.Linear(self.channels, self.rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.channels)
        # A = -exp(A_log) is negative, so that no state grows without end; it begins as -1, -2, ... (S4D-Real).
        self.A_log = nn.Parameter(torch.arange(1, states + 1).float().log().repeat(self.channels, 1))
        self.D = nn.Parameter(torch.ones(self.channels))
        self.out_proj = nn.Linear(self.channels, hidden, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """All tokens at once."""
        x, gate = self.in_proj(tokens).chunk(2, -1)
        x = silu(self.conv1d(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))  # no look ahead
        keep, new, c = self._selected(x)
        y = (scan_together(keep, new) * c[:, :, None, :]).sum(-1) + self.D * x
        return self.out_proj(y * silu(gate))

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """One token (batch, hidden) after those that the state remembers."""
        x, gate = self.in_proj(token).chunk(2, -1)
        window = torch.cat([state.tokens, x[..., None]], -1)
        x = silu((window * self.conv1d.weight[:, 0]).sum(-1) + self.conv1d.bias)
        keep, new, c = self._selected(x[:, None])
        h = keep[:, 0] * state.h + new[:, 0]
        y = (h * c[:, 0, None, :]).sum(-1) + self.D * x
        return self.out_proj(y * silu(gate)), State(window[..., 1:], h)

    def begin(self, batch: int) -> State:
        """Before the first token."""
        like = self.D
        return State(
            like.new_zeros(batch, self.channels, self.kernel - 1), like.new_zeros(batch, self.channels, self.states)
        )

    def _selected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the tokens choose: what is kept, what is new, and C."""
        d, b, c = self.x_proj(x).split((self.rank, self.states, self.states), -1)
        keep, new = discretise(softplus(self.dt_proj(d)), -torch.exp(self.A_log), b, x)
        return keep, new, c
