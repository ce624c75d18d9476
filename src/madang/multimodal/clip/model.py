"""The small CLIP that training begins with where no other is named."""

from __future__ import annotations

from pathlib import Path

import torch

from madang.models.providers.clip_pair import Pair
from madang.multimodal.clip import tokens
from madang.multimodal.scenes import corpus

SIDE, PATCH = 64, 8
VOCABULARY = 1536


def small(
    folder: Path,
    *,
    seed: int = 0,
    side: int = SIDE,
    patch: int = PATCH,
    width: int = 192,
    layers: int = 6,
    text_layers: int = 3,
    dim: int = 256,
    vocabulary: int = VOCABULARY,
) -> Pair:
    """A CLIP of 4 million parameters with a tokenizer made from prompts for scenes; `folder` takes the tokenizer's
    files.
    """
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    tokens.saved(tokens.trained(corpus(), vocabulary), folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    shared = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": max(1, width // 64),
        "projection_dim": dim,
        "hidden_act": "gelu",
    }
    config = CLIPConfig(
        text_config={
            **shared,
            "num_hidden_layers": text_layers,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokens.LENGTH,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**shared, "num_hidden_layers": layers, "image_size": side, "patch_size": patch},
        projection_dim=dim,
    )
    torch.manual_seed(seed)
    size = {"height": side, "width": side}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=size)
    return Pair(
        CLIPModel._from_config(config, attn_implementation="eager"),
        CLIPProcessor(image_processor=pictures, tokenizer=tokenizer),
        "clip",
    )
