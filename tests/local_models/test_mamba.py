"""The blocks of Mamba and Mamba-2 beside transformers' own, and the ways of each to the same result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import Mamba2Config, MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from madang.multimodal.mamba import dual
from madang.multimodal.mamba.dual import DualBlock, scan_in_chunks
from madang.multimodal.mamba.selective import SelectiveBlock, discretise, scan, scan_together

HIDDEN, LENGTH = 24, 37


def mixer(seed: int, **more: int) -> MambaMixer:
    torch.manual_seed(seed)
    made = MambaMixer(MambaConfig(hidden_size=HIDDEN, num_hidden_layers=1, **more), layer_idx=0)
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made.eval()


@pytest.mark.parametrize(("seed", "states", "kernel", "expand"), [(0, 16, 4, 2), (1, 8, 3, 1), (2, 1, 2, 3)])
def test_it_computes_what_transformers_computes(seed: int, states: int, kernel: int, expand: int) -> None:
    theirs = mixer(seed, state_size=states, conv_kernel=kernel, expand=expand)
    ours = SelectiveBlock(HIDDEN, states=states, kernel=kernel, expand=expand)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(3, LENGTH, HIDDEN)
    with torch.no_grad():
        assert torch.allclose(ours(tokens), theirs(tokens), atol=1e-5, rtol=1e-5)


def test_gradients_are_those_of_transformers() -> None:
    theirs, ours = mixer(5), SelectiveBlock(HIDDEN)
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randn(2, LENGTH, HIDDEN)
    ours(tokens).square().mean().backward()
    theirs(tokens).square().mean().backward()
    named = dict(theirs.named_parameters())
    for name, weights in ours.named_parameters():
        assert torch.allclose(weights.grad, named[name].grad, atol=1e-5, rtol=1e-4), name


@pytest.mark.parametrize("length", [1, 2, 3, 8, 37])
def test_one_by_one_is_all_at_once(length: int) -> None:
    torch.manual_seed(length)
    keep, new = torch.rand(2, length, 5, 3), torch.randn(2, length, 5, 3)
    assert torch.allclose(scan(keep, new), scan_together(keep, new), atol=1e-5)
    half = length // 2
    if half:
        first = scan(keep[:, :half], new[:, :half])
        rest = scan(keep[:, half:], new[:, half:], first[:, -1])
        assert torch.allclose(torch.cat([first, rest], 1), scan(keep, new), atol=1e-6)


def test_a_state_remembers_all_that_is_needed() -> None:
    block = SelectiveBlock(HIDDEN)
    tokens = torch.randn(2, LENGTH, HIDDEN)
    state, said = block.begin(2), []
    sizes = set()
    with torch.no_grad():
        for t in range(LENGTH):
            out, state = block.step(tokens[:, t], state)
            said.append(out)
            sizes.add(state.h.numel() + state.tokens.numel())
        assert torch.allclose(torch.stack(said, 1), block(tokens), atol=1e-5)
    assert len(sizes) == 1


def test_nothing_looks_ahead() -> None:
    block = SelectiveBlock(HIDDEN)
    tokens = torch.randn(1, LENGTH, HIDDEN)
    other = tokens.clone()
    other[:, 20:] = torch.randn(1, LENGTH - 20, HIDDEN)
    with torch.no_grad():
        assert torch.allclose(block(tokens)[:, :20], block(other)[:, :20], atol=1e-6)
        assert not torch.allclose(block(tokens)[:, 20:], block(other)[:, 20:], atol=1e-3)


def test_discretisation_is_that_of_the_exact_solution() -> None:
    """With a constant token, many short steps come to where h' = A h + B x comes to."""
    a, b, x, time = -0.7, 1.3, 2.0, 3.0
    for steps in (10, 1000):
        keep, new = discretise(torch.full((1, steps, 1), time / steps), torch.tensor([[a]]), torch.full((1, steps, 1), b),
                               torch.full((1, steps, 1), x))
        error = abs(float(scan(keep, new)[0, -1, 0, 0]) - b * x / -a * (1 - torch.tensor(a * time).exp().item()))
        assert error < 4 / steps


# --- Mamba-2 ---

SIZES = [(2, 24, 8, 4), (3, 8, 5, 3), (1, 24, 1, 2), (6, 12, 32, 4)]      # heads, width, states, kernel


def dual_mixer(seed: int, heads: int, width: int, states: int, kernel: int, chunk: int = 16) -> Mamba2Mixer:
    torch.manual_seed(seed)
    made = Mamba2Mixer(Mamba2Config(
        hidden_size=HIDDEN, num_hidden_layers=1, num_heads=heads, head_dim=width, expand=heads * width // HIDDEN, state_size=states,
        conv_kernel=kernel, n_groups=1, chunk_size=chunk), layer_idx=0)
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made.eval()


def dual_block(theirs: Mamba2Mixer, heads: int, width: int, states: int, kernel: int) -> DualBlock:
    ours = DualBlock(HIDDEN, heads=heads, width=width, states=states, kernel=kernel, eps=theirs.layer_norm_epsilon)
    ours.load_state_dict(theirs.state_dict())
    return ours


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [1, 3, 31, 32, 33, 75])
def test_mamba_2_computes_what_transformers_computes(size: tuple[int, int, int, int], length: int) -> None:
    """Theirs works in chunks of 16, ours of 32: most lengths are multiples of neither."""
    theirs = dual_mixer(length, *size)
    tokens = torch.randn(2, length, HIDDEN)
    with torch.no_grad():
        wanted = theirs(tokens)
        assert wanted.std() > 0.05
        assert torch.allclose(dual_block(theirs, *size)(tokens), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_mamba_2_are_those_of_transformers(size: tuple[int, int, int, int]) -> None:
    theirs = dual_mixer(5, *size)
    ours = dual_block(theirs, *size)
    tokens = torch.randn(2, 75, HIDDEN)
    given, same = tokens.clone().requires_grad_(), tokens.clone().requires_grad_()
    ours(given).square().mean().backward()
    theirs(same).square().mean().backward()
    named = dict(theirs.named_parameters())
    assert {name for name, _ in ours.named_parameters()} == named.keys()
    for name, weights in ours.named_parameters():
        assert torch.allclose(weights.grad, named[name].grad, atol=1e-5, rtol=1e-4), name
    assert torch.allclose(given.grad, same.grad, atol=1e-6, rtol=1e-4)


def taken(length: int, heads: int = 3, width: int = 5, states: int = 4, fast: float = 1.0) -> tuple[Tensor, ...]:
    """x, d, a, b and c for a scan, in double precision; `fast` is how fast it forgets."""
    chance = torch.Generator().manual_seed(length)
    x, b, c = (torch.randn(2, length, *rest, generator=chance, dtype=torch.float64) for rest in ((heads, width), (states,), (states,)))
    d, a = torch.rand(2, length, heads, generator=chance, dtype=torch.float64), -fast * torch.arange(1.0, heads + 1).double()
    return x, d, a, b, c


@pytest.mark.parametrize("length", [1, 2, 19])
def test_the_recurrence_is_attention_that_fades(length: int) -> None:
    """Dao and Gu 2024, the sum that `dual` begins with, term by term."""
    x, d, a, b, c = (each.numpy() for each in taken(length))
    wanted = np.zeros_like(x)
    for batch, t, head in np.ndindex(*d.shape):
        for s in range(t + 1):
            fade = np.exp(a[head] * d[batch, s + 1 : t + 1, head].sum())
            wanted[batch, t, head] += c[batch, t] @ b[batch, s] * fade * d[batch, s, head] * x[batch, s, head]
    assert dual.scan(*taken(length)).numpy() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 32, 64])
@pytest.mark.parametrize("length", [1, 5, 8, 37])
def test_chunks_are_the_recurrence(size: int, length: int) -> None:
    found = scan_in_chunks(*taken(length), size)
    assert found.shape == (2, length, 3, 5)
    assert torch.allclose(found, dual.scan(*taken(length)), atol=1e-12)


def test_what_forgets_at_once_neither_overflows_nor_loses_its_gradients() -> None:
    """exp(A d) is 0 in any precision, and its inverse would be infinite."""
    def learnt(way: object, *more: int) -> list[Tensor]:
        given = [each.float().requires_grad_() for each in taken(70, fast=500.0)]
        way(*given, *more).square().mean().backward()        # type: ignore[operator]
        return [each.grad for each in given]

    for mine, wanted in zip(learnt(scan_in_chunks, 32), learnt(dual.scan), strict=True):
        assert mine.isfinite().all()
        assert torch.allclose(mine, wanted, atol=1e-5, rtol=1e-3)


def test_half_the_digits_are_near_enough_to_learn_with() -> None:
    """Training computes in bfloat16 where torch thinks it safe."""
    theirs = dual_mixer(1, *SIZES[0])
    ours, tokens = dual_block(theirs, *SIZES[0]), torch.randn(2, 75, HIDDEN)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = ours(tokens).float()
    with torch.no_grad():
        wanted = theirs(tokens)
    assert (found - wanted).std() < 0.03 * wanted.std()


@pytest.mark.parametrize("at", [1, 31, 32, 40])
def test_mamba_2_does_not_look_ahead(at: int) -> None:
    """Not beyond a chunk's beginning, nor within it."""
    block = dual_block(dual_mixer(2, *SIZES[0]), *SIZES[0])
    tokens = torch.randn(1, 75, HIDDEN)
    other = tokens.clone()
    other[:, at:] = torch.randn(1, 75 - at, HIDDEN)
    with torch.no_grad():
        one, two = block(tokens), block(other)
    assert torch.allclose(one[:, :at], two[:, :at], atol=1e-6)
    assert not torch.allclose(one[:, at:], two[:, at:], atol=1e-3)
    assert (one[:, at] - two[:, at]).abs().max() > 1e-3           # it sees the token itself


def test_it_remembers_over_many_chunks() -> None:
    """With a state that hardly fades, what was said a hundred tokens ago is still there."""
    block = dual_block(dual_mixer(3, *SIZES[0]), *SIZES[0])
    with torch.no_grad():
        block.A_log.fill_(-9.0)
        tokens = torch.randn(1, 140, HIDDEN)
        other = tokens.clone()
        other[:, 5] += 1
        assert (block(tokens)[:, 139] - block(other)[:, 139]).abs().max() > 1e-4
        block.A_log.fill_(5.0)                      # one that forgets at once: only the convolution is left
        assert torch.equal(block(tokens)[:, 139], block(other)[:, 139])
