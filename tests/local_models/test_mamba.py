"""The selective state-space block beside transformers' own, and its two ways to the same result."""

from __future__ import annotations

import pytest
import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

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
