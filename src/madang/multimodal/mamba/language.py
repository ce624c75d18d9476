"""Small language models of bytes: a Mamba-2, and a transformer of the same size beside it.

Both are transformers' own classes, so that what is learnt is saved in Hugging Face's format with a tokenizer of bytes
(that of ByT5: a byte is its number and three more). For training the blocks of the Mamba-2 are replaced by `DualBlock`,
which computes the same with the same weights.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from madang.base.errors import Corrupt, InvalidInput
from madang.models.providers import weights
from madang.multimodal.mamba.dual import DualBlock

Kind: TypeAlias = Literal["mamba", "transformer"]
KINDS: tuple[Kind, ...] = ("mamba", "transformer")
BYTES, SPECIAL, END = 256, 3, 1  # ids are 0 to 2 for what is no byte, and 3 + byte
_HEAD = 32  # numbers of a head, of either


def small(kind: Kind, *, width: int = 96, layers: int = 6, states: int = 32, seed: int = 0) -> Any:
    """A model of `layers` layers of Mamba-2; as a transformer, of as many parameters (within 1 %), in three layers for
    five. By default 0.4 million.

    Raises `InvalidInput` for a width that heads of 32 do not fill.
    """
    if width < 1 or width % _HEAD:
        raise InvalidInput(f"width: a multiple of {_HEAD}, not {width}.")
    torch.manual_seed(seed)
    mamba = _mamba(width, layers, states)
    return mamba if kind == "mamba" else _transformer(width, max(1, layers * 3 // 5), size(mamba))


def _mamba(width: int, layers: int, states: int) -> Any:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        vocab_size=BYTES + SPECIAL,
        hidden_size=width,
        num_hidden_layers=layers,
        state_size=states,
        expand=2,
        head_dim=_HEAD,
        num_heads=2 * width // _HEAD,
        n_groups=1,
        chunk_size=32,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=END,
        eos_token_id=END,
    )
    return Mamba2ForCausalLM(config)


def _transformer(width: int, layers: int, parameters: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    # Beside the inner layers: the embedding, four maps and two norms of each layer, and the norm in the end.
    rest = (BYTES + SPECIAL) * width + layers * (4 * width * width + 2 * width) + width
    config = LlamaConfig(
        vocab_size=BYTES + SPECIAL,
        hidden_size=width,
        num_hidden_layers=layers,
        intermediate_size=max(1, round((parameters - rest) / (layers * 3 * width))),
        num_attention_heads=width // _HEAD,
        num_key_value_heads=width // _HEAD,
        max_position_embeddings=65_536,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=END,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config)


def size(model: Any) -> int:
    """Its parameters."""
    return sum(each.numel() for each in model.parameters())


def quick(model: Any) -> Any:
    """The same model and weights, in place, with blocks that learn faster; it can no longer read token by token."""
    for layer in model.backbone.layers if hasattr(model, "backbone") else ():
        config, block = model.config, layer.mixer
        if config.n_groups == 1 and not config.use_bias and not isinstance(block, DualBlock):
            layer.mixer = DualBlock(
                config.hidden_size,
                heads=config.num_heads,
                width=config.head_dim,
                states=config.state_size,
                kernel=config.conv_kernel,
                eps=config.layer_norm_epsilon,
            )
            layer.mixer.load_state_dict(block.state_dict())
    return model


def save(model: Any, folder: Path) -> None:
    """In Hugging Face's format, with the tokenizer of bytes."""
    from transformers import ByT5Tokenizer

    weights.quiet()
    model.save_pretrained(folder)
    ByT5Tokenizer(extra_ids=0).save_pretrained(folder)


def load(folder: Path) -> Any:
    """What `save` wrote. Raises `Corrupt` where it is damaged."""
    from transformers import AutoModelForCausalLM

    weights.quiet()
    try:
        return weights.whole(AutoModelForCausalLM, folder, dtype=torch.float32).eval()
    except Exception as error:  # libraries under it raise errors of their own
        why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
        raise Corrupt(f"{folder} cannot be loaded: {why}.", remedy="See whether it is complete.") from error


def ids(text: bytes) -> Tensor:
    """int64 (length,) of a text's bytes."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long() + SPECIAL if text else torch.zeros(0).long()


def told(found: Tensor) -> bytes:
    """The bytes of ids; what is no byte is left out."""
    return bytes((found[found >= SPECIAL] - SPECIAL).tolist())


@torch.no_grad()  # type: ignore[untyped-decorator]
def surprise(model: Any, windows: Tensor) -> Tensor:
    """Bits for each byte, float32 (n, length - 1): how little each was expected after those before it in its window.

    `windows`: ids, int64 (n, length).
    """
    found = [
        cross_entropy(
            model(input_ids=each[None], use_cache=False).logits[0, :-1].float(), each[1:], reduction="none"
        )
        for each in windows
    ]
    return torch.stack(found) / torch.log(torch.tensor(2.0))


@dataclass(frozen=True)
class Cost:
    """Of one more token, after `context`: its median seconds, and the bytes that are remembered of the context."""

    context: int
    seconds: float
    remembered: int


@torch.no_grad()  # type: ignore[untyped-decorator]
def cost(model: Any, context: Tensor, repeats: int = 9) -> Cost:
    """Of token after token by the model's own code, once it has read `context` (ids, (length,))."""
    cache, times = model(input_ids=context[None], use_cache=True).cache, []
    remembered = sum(each.numel() * each.element_size() for each in _tensors(cache))
    for _ in range(repeats):
        begun = time.perf_counter()
        model(input_ids=context[None, -1:], use_cache=True, cache=cache)
        times.append(time.perf_counter() - begun)
    return Cost(len(context), statistics.median(times), remembered)


def _tensors(cache: Any) -> Iterator[Tensor]:
    """Whatever tensors a cache holds, in layers, lists and dictionaries."""
    if isinstance(cache, Tensor):
        yield cache
    elif isinstance(cache, dict):
        for each in cache.values():
            yield from _tensors(each)
    elif isinstance(cache, (list, tuple)):
        for each in cache:
            yield from _tensors(each)
    elif hasattr(cache, "__dict__"):
        yield from _tensors(vars(cache))


@torch.no_grad()  # type: ignore[untyped-decorator]
def continued(model: Any, text: bytes, count: int = 200, *, seed: int = 0, temperature: float = 0.7) -> bytes:
    """The text, and `count` bytes more at most."""
    by_chance: dict[str, Any] = {"temperature": temperature, "top_k": 0} if temperature > 0 else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        begun = ids(text)[None] if text else torch.tensor([[END]])
        found = model.generate(begun, max_new_tokens=count, do_sample=temperature > 0, **by_chance)
    return told(found[0])
