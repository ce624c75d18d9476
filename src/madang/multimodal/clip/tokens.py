"""A small tokenizer in CLIP's format: byte-level BPE with "</w>" at the ends of words, made from prompts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LENGTH = 77  # tokens of a prompt, as in CLIP
# CLIP's own division into words (Radford et al. 2021, section 2.4; as in its published tokenizer).
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def trained(texts: Iterable[str], size: int) -> Any:
    """A `tokenizers.Tokenizer` of at most `size` tokens; the same texts give the same one.

    Every byte is a token, at the end of a word, too, so that any text can be said.

    The library's own trainer breaks ties by chance: what was trained with it could not go on in another process.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

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
    words = Counter(
        word for text in texts for word, _ in made.pre_tokenizer.pre_tokenize_str(made.normalizer.normalize_str(text))
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [BEGIN, END, *letters, *(f"{letter}</w>" for letter in letters)]
    merges = pair_merges(words, max(0, size - len(tokens)))
    names = dict.fromkeys([*tokens, *(one + other for one, other in merges)])
    made.model = models.BPE(
        {token: number for number, token in enumerate(names)}, merges, unk_token=END, end_of_word_suffix="</w>"
    )
    made.add_special_tokens([BEGIN, END])
    made.post_processor = processors.RobertaProcessing((END, 1), (BEGIN, 0), trim_offsets=False, add_prefix_space=False)
    return made


def pair_merges(words: Mapping[str, int], most: int, end: str = "</w>") -> list[tuple[str, str]]:
    """The pairs to join, in their order (Sennrich et al. 2016, algorithm 1): again and again the most frequent one, of
    equally frequent ones the first by its letters; pairs that come once are left. `end` marks the end of a word."""
    split = {word: [*word[:-1], f"{word[-1]}{end}"] for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < most:
        counts: Counter[tuple[str, str]] = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                counts[pair] += words[word]
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < 2:
            break
        merges.append(best)
        for word, parts in split.items():
            split[word] = _joined(parts, best)
    return merges


def _joined(parts: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


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
