"""Builds the bundled embedder `static`: one int8 row of 256 numbers per token, distilled from the teacher; 8 MB.

    python scripts/models/static.py [--output DIR]

The method is model2vec's (Tulkens and van Dongen 2024, https://github.com/MinishLab/model2vec): every token passes
through the teacher alone, the 256 strongest principal components are kept, and frequent tokens are weighted down
(SIF, Arora et al. 2017, with frequencies from Zipf's law). One thing differs: a token is represented by its own
output, not by the mean with the outputs of [CLS] and [SEP], which measured better. The folder loads in model2vec
too. Takes a minute. Run check.py afterwards: it measures and writes the card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import layout
import numpy as np
import onnxruntime
import teacher
from graph import encoder, float_linear
from numpy.typing import NDArray
from quantise import rows_to_int8
from safetensors.numpy import save

# On one half of the known-item set (benchmarks/known_item.py) fusion at half weight lost to BM25 alone (nDCG@10 .44 and
# .47), a fifth lost less (.46): at a twentieth its ranking only fills up what BM25 leaves empty.
DENSE_WEIGHT = 0.05
DIM = 256
SIF = 1e-4

Floats = NDArray[np.float32]


def token_outputs(start: int, end: int, size: int, batch: int = 512) -> Floats:
    """The teacher's output at every token of the vocabulary, each alone between `start` and `end`: (size, 384)."""
    weights = teacher.weights()
    model = encoder(weights, float_linear(weights), heads=teacher.HEADS, int8_words=False)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for first in range(0, size, batch):
        ids = np.array([[start, token, end] for token in range(first, min(first + batch, size))], np.int64)
        output = session.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
        found.append(output[:, 1])
    return np.concatenate(found)


def principal(table: Floats, dim: int) -> Floats:
    """The `dim` strongest principal components of the rows, largest entry of each component positive."""
    centred = table.astype(np.float64) - table.mean(axis=0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    scores = centred @ vectors[:, ::-1][:, :dim]
    signs = np.sign(scores[np.abs(scores).argmax(axis=0), np.arange(dim)])
    return (scores * signs).astype(np.float32)


def zipf_weights(size: int, sif: float = SIF) -> Floats:
    """The weight of the token of each frequency rank: sif / (sif + p), with p proportional to 1 / (rank + 2)."""
    inverse = 1 / np.arange(2, size + 2)
    return (sif / (sif + inverse / inverse.sum())).astype(np.float32)


def main() -> None:
    """Build the folder."""
    parser = argparse.ArgumentParser(description="Build the bundled embedder `static` from its teacher.")
    parser.add_argument("--output", type=Path, default=layout.BUNDLED / "static", help="default: %(default)s")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    tokenizer = teacher.tokenizer()
    tokenizer.no_truncation()
    vocabulary = tokenizer.get_vocab()
    used = np.array([id_ for token, id_ in sorted(vocabulary.items(), key=lambda item: item[1])
                     if not token.startswith("[unused")])    # the vocabulary is ordered by frequency
    outputs = token_outputs(vocabulary["[CLS]"], vocabulary["[SEP]"], len(vocabulary))
    rows, scale = rows_to_int8(principal(outputs[used], DIM))
    embeddings, weights = np.zeros((len(vocabulary), DIM), np.int8), np.zeros(len(vocabulary), np.float32)
    embeddings[used], weights[used] = rows, scale * zipf_weights(len(used))
    (output / "model.safetensors").write_bytes(save({"embeddings": embeddings, "weights": weights}))
    tokenizer.save(str(output / "tokenizer.json"), pretty=False)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (output / name).write_bytes((teacher.folder() / name).read_bytes())
    layout.write_config(output, {
        "model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": teacher.NAME,
        "apply_pca": DIM, "sif_coefficient": SIF, "hidden_dim": DIM, "max_length": None, "normalize": True,
        "embedding_dtype": "int8"}, name="bundled/static", weights_file="model.safetensors",
        dense_weight=DENSE_WEIGHT)


if __name__ == "__main__":
    main()
