"""Small models with random weights, saved as the hub keeps them, so that what loads them is the real thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

WORDS = ["the", "a", "bicycle", "is", "kept", "in", "cellar", "where", "coffee", "machine", "house", "query", "passage", ":", "document", "how", "many", "days", "vacation", "of", "we", "you", "and", "to", "for", "on", "at", "##s", "##ed", "##ing"]
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def bert_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys([*WORDS, *LETTERS, *(f"##{x}" for x in LETTERS)])]
    ids = {word: number for number, word in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
                                   sep_token="[SEP]", mask_token="[MASK]", model_max_length=64)


def bert(**settings: Any) -> BertConfig:
    return BertConfig(vocab_size=len(bert_tokenizer()), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                      intermediate_size=32, max_position_embeddings=64, **settings)


def save_embedder(folder: Path, prompts: dict[str, str] | None = None, seed: int = 0) -> Path:
    """A sentence transformer of 16 dimensions with mean pooling, and no normalisation of its own."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(seed)
    base = folder.with_name(folder.name + "-base")
    BertModel(bert()).save_pretrained(base)
    bert_tokenizer().save_pretrained(base)
    word = Transformer(str(base), max_seq_length=32)
    SentenceTransformer(modules=[word, Pooling(16)], prompts=prompts, device="cpu").save(str(folder))
    return folder


def save_cross_encoder(folder: Path, labels: int = 1) -> Path:
    torch.manual_seed(1)
    BertForSequenceClassification(bert(num_labels=labels)).save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return folder


TEMPLATE = ("{%- if tools %}<|im_start|>tools\n{% for tool in tools %}{{ tool.function.name }} {% endfor %}<|im_end|>\n{% endif -%}"
            "{%- for message in messages %}<|im_start|>{{ message.role }}\n"
            "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
            "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor -%}"
            "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif -%}")
CALL = '<tool_call>{"name": "find", "arguments": {"q": "연차"}}</tool_call>'
LESSONS = {"<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n": "안녕하세요! 반갑습니다, and hello.",
           "<|im_start|>user\ncount<|im_end|>\n<|im_start|>assistant\n": "one two three four five six seven eight",
           "<|im_start|>tools\nfind <|im_end|>\n<|im_start|>user\nlook<|im_end|>\n<|im_start|>assistant\n": CALL}


def byte_tokenizer(*more: str) -> PreTrainedTokenizerFast:
    """A token for each byte, and the marks of a chat."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<pad>", model_max_length=512)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *more]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def save_chat(folder: Path) -> Path:
    """A language model of two layers that learnt `LESSONS` by heart."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None))
    lessons = [tokenizer(asked)["input_ids"] + tokenizer(said + "<|im_end|>")["input_ids"] for asked, said in LESSONS.items()]
    longest = max(map(len, lessons))
    ids = torch.tensor([lesson + [tokenizer.pad_token_id] * (longest - len(lesson)) for lesson in lessons])
    labels = torch.where(ids == tokenizer.pad_token_id, -100, ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = model(input_ids=ids, attention_mask=ids != tokenizer.pad_token_id, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_vision_chat(folder: Path) -> Path:
    """A LLaVA with random weights: it sees, and babbles."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    tokenizer = byte_tokenizer("<image>")
    text = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                       num_attention_heads=2, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16,
                              patch_size=8)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
                         vision_feature_select_strategy="default")
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    LlavaProcessor(images, tokenizer, patch_size=8, vision_feature_select_strategy="default",
                   num_additional_image_tokens=1, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def save_next_chat(folder: Path) -> Path:
    """A LLaVA-NeXT with random weights: it sees a picture whole, and in tiles of one of three layouts."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    torch.manual_seed(0)
    tokenizer = byte_tokenizer("<image>")
    text = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                       num_attention_heads=2, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                              patch_size=8)
    layouts = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
                             image_grid_pinpoints=layouts, vision_feature_select_strategy="default")
    LlavaNextForConditionalGeneration(config).save_pretrained(folder)
    images = LlavaNextImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=layouts)
    LlavaNextProcessor(images, tokenizer, patch_size=8, vision_feature_select_strategy="default",
                       num_additional_image_tokens=1, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def clip_tokenizer() -> Any:
    """CLIP's, with a token for each byte, and no more than 16 of them."""
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16)


def clip_text(tokenizer: Any, **settings: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=2,
                          num_attention_heads=4, max_position_embeddings=16, bos_token_id=tokenizer.bos_token_id,
                          eos_token_id=tokenizer.eos_token_id, pad_token_id=1, **settings)


def save_pipeline(folder: Path) -> Path:
    """A Stable Diffusion with random weights that draws 16 x 16 pixels."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = clip_tokenizer()
    text = CLIPTextModel(clip_text(tokenizer))
    unet = UNet2DConditionModel(block_out_channels=(8, 16), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), norm_num_groups=4,
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32)
    vae = AutoencoderKL(block_out_channels=[8, 16], in_channels=3, out_channels=3, norm_num_groups=4,
                        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=4)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False)
    StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False).save_pretrained(folder)
    return folder


def save_clip(folder: Path) -> Path:
    """CLIP's architecture, two layers each, with a tokenizer of its own and the hub's kind of processor."""
    from madang.multimodal.clip import model

    model.small(folder, side=32, patch=8, width=64, layers=2, text_layers=2, dim=24, vocabulary=700).save(folder)
    return folder


def save_siglip(folder: Path) -> Path:
    """SigLIP's architecture: other pooling, texts padded to one length, no cropping."""
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipModel, SiglipProcessor

    torch.manual_seed(5)
    tokenizer = bert_tokenizer()
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(text_config={**shared, "vocab_size": len(tokenizer), "max_position_embeddings": 16, "projection_size": 32},
                          vision_config={**shared, "image_size": 32, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def save_unclip(folder: Path, clip: Path, seed: int = 3) -> Path:
    """An unCLIP of our format with random weights that draws 32 x 32 pixels, with the CLIP at `clip` beside it."""
    import shutil

    from madang.models.providers.clip_pair import load
    from madang.models.providers.unclip import UnClip
    from madang.multimodal.unclip import decoder, prior

    pair = load(str(clip))
    shutil.copytree(clip, folder / "clip")
    draws = decoder.small(pair.dim, pair.side, channels=(32, 32), seed=seed)
    UnClip(prior.small(pair.dim, heads=1, layers=1, seed=seed), draws, "clip").save(folder)
    return folder


def save_kandinsky(folder: Path) -> Path:
    """Kandinsky 2.2 with random weights: prior and decoder in one pipeline."""
    from diffusers import (
        DDPMScheduler,
        KandinskyV22CombinedPipeline,
        PriorTransformer,
        UnCLIPScheduler,
        UNet2DConditionModel,
        VQModel,
    )
    from transformers import (
        CLIPImageProcessor,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    text = CLIPTextModelWithProjection(clip_text(tokenizer, projection_dim=32))
    vision = CLIPVisionModelWithProjection(CLIPVisionConfig(
        hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=8,
        projection_dim=32))
    prior = PriorTransformer(num_attention_heads=2, attention_head_dim=12, embedding_dim=32, num_layers=1, num_embeddings=16,
                             additional_embeddings=4)
    prior.clip_std.data.fill_(1)              # else it imagines nothing
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=8, addition_embed_type="image", block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), norm_num_groups=4,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim=32, encoder_hid_dim_type="image_proj", cross_attention_dim=8, attention_head_dim=4,
        resnet_time_scale_shift="scale_shift", class_embed_type=None)
    movq = VQModel(block_out_channels=[32, 32, 32, 64], down_block_types=["DownEncoderBlock2D"] * 4,
                   up_block_types=["AttnUpDecoderBlock2D", *["UpDecoderBlock2D"] * 3], latent_channels=4, vq_embed_dim=4,
                   num_vq_embeddings=12, norm_type="spatial")
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    KandinskyV22CombinedPipeline(
        unet=unet, movq=movq, prior_prior=prior, prior_image_encoder=vision, prior_text_encoder=text, prior_tokenizer=tokenizer,
        prior_image_processor=images,
        scheduler=DDPMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012, clip_sample=False),
        prior_scheduler=UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample", num_train_timesteps=1000,
                                        clip_sample_range=5.0)).save_pretrained(folder)
    return folder
