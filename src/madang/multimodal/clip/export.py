"""A trained model as ONNX, for serving without torch: a graph for pictures and one for texts, float32 and int8."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from madang.models.providers.clip_pair import Pair
from madang.multimodal.onnx_export import quiet, written


class _Seeing(nn.Module):  # type: ignore[misc]
    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.model, self.pair = pair.model, pair

    def forward(self, pixel_values: Tensor) -> Tensor:
        return normalize(self.pair.seen(pixel_values)[0], eps=1e-12)


class _Reading(nn.Module):  # type: ignore[misc]
    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.model, self.pair = pair.model, pair

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        encoded = {"input_ids": input_ids}
        if self.pair.kind == "clip":
            encoded["attention_mask"] = attention_mask
        return normalize(self.pair.read(encoded), eps=1e-12)


def export(pair: Pair, folder: Path) -> None:
    """Write onnx/vision.onnx and onnx/text.onnx, each also as _int8, with tokenizer, processor and config beside them.

    Raises `MissingDependency` without the library onnx.
    """
    pair.model.eval()
    pair.model.set_attn_implementation("eager")        # the plainest graph
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    pair.processor.save_pretrained(folder)
    config = pair.model.config.to_dict() | {"madang": {"scale": float(pair.model.logit_scale.detach().exp())}}
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str) + "\n", encoding="utf-8")
    pixels = torch.zeros(2, 3, pair.side, pair.side)
    words = pair.encoded(["a picture", "그림"])
    ids, mask = words["input_ids"], torch.ones_like(words["input_ids"])
    batch, length = (
        torch.export.Dim("batch"),
        torch.export.Dim("length", max=pair.model.config.text_config.max_position_embeddings),
    )
    texts: dict[int, Any] = {0: batch} if pair.kind == "siglip" else {0: batch, 1: length}
    written(_Seeing(pair), (pixels,), folder / "onnx" / "vision.onnx", ["pixel_values"], ["vectors"], ({0: batch},))
    written(_Reading(pair), (ids, mask), folder / "onnx" / "text.onnx", ["input_ids", "attention_mask"], ["vectors"],
            (texts, texts))
    for name in ("vision", "text"):
        _quantised(folder / "onnx" / f"{name}.onnx", folder / "onnx" / f"{name}_int8.onnx")


def _quantised(path: Path, out: Path) -> None:
    """Weights of matrix products in int8, one step for each column; what they multiply is rounded as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path.with_suffix(".prepared.onnx")
    with quiet():
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_dynamic(
            str(prepared),
            str(out),
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
    prepared.unlink()
