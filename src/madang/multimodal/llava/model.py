"""The small LLaVA that training begins with: the tower of a CLIP, a projector of two layers, a small language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from madang.base.errors import Corrupt, InvalidInput
from madang.models.pictures import PictureSettings, shaped
from madang.models.protocol import Picture
from madang.models.providers import weights
from madang.models.providers.clip_pair import Pair, normalized
from madang.models.providers.output_projector import OUTPUT, OutputProjector
from madang.multimodal.llava import tokens

VOCABULARY = 1200
_AT_ONCE = 64


@dataclass
class Seer:
    """A LLaVA with what prepares text and pictures for it; `output` is its way to draw, where it has one."""

    model: Any  # LlavaForConditionalGeneration
    processor: Any  # LlavaProcessor
    output: OutputProjector | None = None

    @property
    def core(self) -> Any:
        """The LLaVA itself, where low-rank updates are wrapped around it, too."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def room(self) -> int:
        """Tokens of a conversation at most."""
        return int(self.model.config.text_config.max_position_embeddings)

    @property
    def tiled(self) -> bool:
        """Whether it sees pictures whole and in tiles (LLaVA-NeXT)."""
        return bool(self.model.config.model_type == "llava_next")

    @property
    def side(self) -> int:
        """Pixels of a square picture's side as the model takes it."""
        if self.tiled:
            return int(max(min(each) for each in self.model.config.image_grid_pinpoints))
        return int(self.model.config.vision_config.image_size)

    @property
    def patches(self) -> int:
        """Tokens of a square picture."""
        config = self.model.config
        if self.tiled:
            found = self.processor._get_num_multimodal_tokens(image_sizes=[(self.side, self.side)])
            return int(found.num_image_tokens[0])
        whole = config.vision_feature_select_strategy == "full"
        return int((self.side // config.vision_config.patch_size) ** 2 + whole)

    def pixels(self, pictures: NDArray[np.uint8]) -> dict[str, Tensor]:
        """uint8 (n, side, side, 3) as the model takes them: "pixel_values", float32 (n, 3, side, side), or with
        tiles (n, 1 + tiles, 3, ...) and "image_sizes"."""
        if self.tiled:
            found = self.processor.image_processor(list(pictures), return_tensors="pt")
            return {name: found[name].to(self.model.device) for name in ("pixel_values", "image_sizes")}
        return {"pixel_values": normalized(pictures, self.processor.image_processor).to(self.model.device)}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def answers(self, pictures: Sequence[Picture], questions: Sequence[str], most: int = 120) -> list[str]:
        """To a question about each picture, the likeliest words; many together."""
        self.model.eval()
        settings = PictureSettings.of(self.processor.image_processor.to_dict())
        if self.tiled:
            settings = replace(settings, edge=self.side, width=self.side, height=self.side)
        found: list[str] = []
        for start in range(0, len(questions), _AT_ONCE):
            prompts = [
                self.processor.apply_chat_template(
                    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": each}]}],
                    add_generation_prompt=True,
                )
                for each in questions[start : start + _AT_ONCE]
            ]
            seen = self.pixels(np.stack([shaped(each, settings) for each in pictures[start : start + _AT_ONCE]]))
            image, tokenizer = self.processor.image_token, self.processor.tokenizer
            prompts = [each.replace(image, image * self.patches) for each in prompts]
            words = [tokenizer.encode(each, add_special_tokens=False) for each in prompts]
            # Not by the tokenizer, which would keep this way of padding, and save it.
            longest, none = max(map(len, words)), tokenizer.pad_token_id or 0
            ids = torch.tensor([[none] * (longest - len(each)) + each for each in words])
            mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in words])
            told = self.model.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                **seen,
                max_new_tokens=most,
                do_sample=False,
            )
            found += tokenizer.batch_decode(told[:, longest:], skip_special_tokens=True)
        return [each.strip() for each in found]

    def save(self, folder: Path) -> None:
        """In Hugging Face's format, with the output projector beside it."""
        from safetensors.torch import save_file

        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        if self.output is not None:
            save_file({name: each.contiguous() for name, each in self.output.state_dict().items()}, folder / OUTPUT)


def load(name: str, *, download: bool = True) -> Seer:
    """A LLaVA: a folder, or a name on the hub that this machine has or may fetch.

    Raises as `weights.folder_of`; `InvalidInput` where it is another architecture, `Corrupt` where it is damaged.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    folder = weights.folder_of(name, download=download)
    weights.quiet()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in ("llava", "llava_next"):
            raise InvalidInput(
                f"model: {name!r} is a {config.model_type}, not a LLaVA.",
                remedy='Name one, for example "llava-hf/llava-1.5-7b-hf".',
            )
        model = weights.whole(AutoModelForImageTextToText, folder, dtype=torch.float32, attn_implementation="eager")
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        path = Path(folder) / OUTPUT
        output = OutputProjector.load(path) if path.exists() else None
    except InvalidInput:
        raise
    except Exception as error:  # libraries under it raise errors of their own
        why = (str(error).splitlines() or [repr(error)])[0].rstrip(".")
        raise Corrupt(
            f"{name} cannot be loaded from {folder}: {why}.", remedy="See whether it is a LLaVA, and complete."
        ) from error
    return Seer(model, processor, output)


def small(pair: Pair, *, width: int = 192, layers: int = 5, vocabulary: int = VOCABULARY, seed: int = 0) -> Seer:
    """Two and a half million parameters beside the tower of `pair`. Raises `InvalidInput` where that is no CLIP."""
    if pair.kind != "clip":
        raise InvalidInput("clip: a small LLaVA stands on the tower of a CLIP, and this is a SigLIP.",
                           remedy='Name a CLIP, for example "openai/clip-vit-base-patch32".')
    from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = tokens.fast(tokens.trained(tokens.corpus(), vocabulary))
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        num_key_value_heads=max(1, width // 32),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(tokens.END),
        pad_token_id=tokenizer.convert_tokens_to_ids(tokens.PAD),
    )
    tower = pair.model.config.vision_config
    # The last states of the tower: it was trained to know in them what covers each patch.
    config = LlavaConfig(
        vision_config=tower.to_dict(),
        text_config=text,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_token_id=tokenizer.convert_tokens_to_ids(tokens.IMAGE),
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration._from_config(config, attn_implementation="eager")
    model.model.vision_tower.load_state_dict(pair.model.vision_model.state_dict())
    model.model.vision_tower.requires_grad_(False)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = text.eos_token_id, text.pad_token_id
    processor = LlavaProcessor(
        image_processor=pair.processor.image_processor,
        tokenizer=tokenizer,
        patch_size=tower.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokens.TEMPLATE,
        image_token=tokens.IMAGE,
    )
    return Seer(model, processor, OutputProjector(width, pair.dim))
