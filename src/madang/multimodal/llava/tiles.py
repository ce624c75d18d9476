"""Tiles (Liu et al. 2024, "LLaVA-NeXT"): a picture is seen whole, and in four tiles twice as sharp.

The tower sees each tile as it sees a picture, at its own size, so that it need not learn anything; the language model
gets the tokens of the whole, then those of all tiles row by row, with a token at the end of each row.
"""

from __future__ import annotations

import torch

from madang.base.errors import InvalidInput
from madang.multimodal.llava import tokens
from madang.multimodal.llava.model import Seer


def tiled(seer: Seer, seed: int = 0) -> Seer:
    """A LLaVA-NeXT with the weights of a LLaVA; what stands at the end of a row is new. One that is tiled already is
    returned as it is.

    Raises `InvalidInput` where its language model has too little room for the tokens.
    """
    if seer.tiled:
        return seer
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    config, side = seer.model.config, seer.side
    grids = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side]]
    made = LlavaNextConfig(
        vision_config=config.vision_config.to_dict(),
        text_config=config.text_config.to_dict(),
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        image_token_index=config.image_token_id,
        image_grid_pinpoints=grids,
        tie_word_embeddings=config.tie_word_embeddings,
    )
    torch.manual_seed(seed)
    model = LlavaNextForConditionalGeneration._from_config(made, attn_implementation="eager")
    model.load_state_dict({**seer.model.state_dict(), "model.image_newline": model.model.image_newline})
    model.generation_config = seer.model.generation_config
    images, old = seer.processor.image_processor, seer.processor
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": side},
            crop_size={"height": side, "width": side},
            image_grid_pinpoints=grids,
            image_mean=images.image_mean,
            image_std=images.image_std,
        ),
        tokenizer=old.tokenizer,
        patch_size=old.patch_size,
        vision_feature_select_strategy=old.vision_feature_select_strategy,
        num_additional_image_tokens=old.num_additional_image_tokens,
        chat_template=old.chat_template or tokens.TEMPLATE,
        image_token=old.image_token,
    )
    found = Seer(model, processor, seer.output)
    if found.patches + 128 > found.room:
        raise InvalidInput(
            f"tiles: a picture would be {found.patches} tokens, and the language model takes {found.room} in all.",
            remedy="Start from one with a longer context.",
        )
    return found
