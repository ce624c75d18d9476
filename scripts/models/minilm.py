"""Builds the bundled embedder `minilm`: the teacher in int8, as an ONNX graph of about 23 MB.

    python scripts/models/minilm.py [--output DIR]

Takes a few minutes and 2 GB of memory. The same machine, library versions and Python give the same bytes; elsewhere
a few weights may round the other way. Run check.py afterwards: it measures and writes the card.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import layout
import numpy as np
import onnx
import onnxruntime
import teacher
import texts
from graph import PARTS, Weights, encoder, float_linear, int8_linear, linear_weights
from numpy.typing import NDArray
from quantise import Linear8, quantise_linear, saturating_matmul

LAYERS = 6
# How much of the 256 levels lies below zero: GELU never goes below -0.17, the other inputs are about symmetric.
ZEROS = {"qkv": (0.4, 0.5, 0.6), "o": (0.4, 0.5, 0.6), "up": (0.4, 0.5, 0.6), "down": (0.03, 0.05, 0.07, 0.1)}
KEPT = ("tokenizer_config.json", "special_tokens_map.json", "modules.json", "sentence_bert_config.json", "1_Pooling")


def activations(weights: Weights, token_ids: Sequence[Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """What every linear layer of the float32 model multiplies on the given texts: layer name -> (tokens, k)."""
    names = [f"{number}.{part}" for number in range(LAYERS) for part in PARTS]
    model = encoder(weights, float_linear(weights), heads=teacher.HEADS, int8_words=False,
                    expose=[f"{name}.x" for name in names])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    seen: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for ids in token_ids:
        batch = np.array([ids], np.int64)
        values = session.run([f"{name}.x" for name in names],
                             {"input_ids": batch, "attention_mask": np.ones_like(batch)})
        for name, value in zip(names, values, strict=True):
            seen[name].append(value[0])
    return {name: np.concatenate(parts) for name, parts in seen.items()}


def quantise(weights: Weights, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, Linear8]:
    """Every linear layer in int8, with the steps of each "o" folded into the values that it multiplies."""
    layers = {}
    for name, x in inputs.items():
        weight, bias = linear_weights(weights, name)
        layers[name] = quantise_linear(x, weight, bias, zeros=ZEROS[name.split(".")[1]])
        error = np.linalg.norm(layers[name](x) - (x @ weight + bias)) / np.linalg.norm(x @ weight)
        _, saturated = saturating_matmul(layers[name].levels(x[::200]), layers[name].weight)
        print(f"{name:8s} relative output error {error:.4f}, zero point {layers[name].zero_point}, "
              f"{saturated} sums would saturate without VNNI", flush=True)
    for number in range(LAYERS):
        layers[f"{number}.qkv"], layers[f"{number}.o"] = fold(layers[f"{number}.qkv"], layers[f"{number}.o"])
    return layers


def fold(qkv: Linear8, o: Linear8) -> tuple[Linear8, Linear8]:
    """Attention averages values, so dividing by o's steps can as well happen in the layer that makes the values."""
    values = slice(2 * len(o.inverse_step), None)
    scale, bias = qkv.scale.copy(), qkv.bias.copy()
    scale[values] *= o.inverse_step
    bias[values] *= o.inverse_step
    return (Linear8(qkv.inverse_step, qkv.zero_point, qkv.weight, scale, bias),
            Linear8(np.ones_like(o.inverse_step), o.zero_point, o.weight, o.scale, o.bias))


def main() -> None:
    """Build the folder."""
    parser = argparse.ArgumentParser(description="Build the bundled embedder `minilm` from its teacher.")
    parser.add_argument("--output", type=Path, default=layout.BUNDLED / "minilm", help="default: %(default)s")
    output = parser.parse_args().output
    weights, tokenizer = teacher.weights(), teacher.tokenizer()
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts.calibration(vocabulary))]
    layers = quantise(weights, activations(weights, ids))
    model = encoder(weights, int8_linear(layers), heads=teacher.HEADS, int8_words=True)
    (output / "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(model, output / "onnx" / "model_int8.onnx")
    tokenizer.save(str(output / "tokenizer.json"), pretty=False)
    for name in KEPT:
        _copy(teacher.folder() / name, output / name)
    layout.write_config(output, layout.read_json(teacher.folder() / "config.json"), name="bundled/minilm",
                        weights_file="onnx/model_int8.onnx")


def _copy(source: Path, target: Path) -> None:
    """A file or folder of the teacher that is kept as it is."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
