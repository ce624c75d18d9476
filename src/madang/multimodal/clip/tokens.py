"""A small tokenizer in CLIP's format: byte-level BPE with "</w>" at the ends of words, made from prompts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # tokens of a prompt, as in CLIP
# CLIP's own division into words (Radford et al. 2021, section 2.4; as in its published tokenizer).
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def trained(texts: Iterable[str], size: int) -> Any:
    """A `tokenizers.Tokenizer` of at most `size` tokens. Every byte is one, so that any text can be said."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            special_tokens=[BEGIN, END],
            end_of_word_suffix="</w>",
            initial_alphabet=[*alphabet, *(f"{letter}</w>" for letter in alphabet)],
            show_progress=False,
        ),
    )
    begin, end = (int(made.token_to_id(each) or 0) for each in (BEGIN, END))
    made.post_processor = processors.RobertaProcessing(
        (END, end), (BEGIN, begin), trim_offsets=False, add_prefix_space=False
    )
    return made


def saved(made: Any, folder: Path, length: int = LENGTH) -> None:
    """As CLIP's tokenizer is saved, so that `CLIPTokenizer.from_pretrained` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(found["vocab"], ensure_ascii=False), encoding="utf-8")
    pairs = (each if isinstance(each, str) else " ".join(each) for each in found["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": length,
                "bos_token": BEGIN,
                "eos_token": END,
                "pad_token": END,
                "unk_token": END,
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
