"""The tokenizer of the small language model, and how a conversation is written with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from madang.models.providers.output_projector import PICTURE
from madang.multimodal.clip.tokens import pair_merges
from madang.multimodal.scenes.talk import Talk
from madang.multimodal.scenes.words import LANGUAGES
from madang.multimodal.scenes.world import scene

PAD, IMAGE, USER, ASSISTANT, END = "<|pad|>", "<image>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL = (PAD, IMAGE, USER, ASSISTANT, END, *PICTURE)
# As `Conversation.text` writes it. Pictures stand before the words.
TEMPLATE = (
    "{% for message in messages %}{{ '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def trained(texts: Iterable[str], size: int) -> Any:
    """A byte-level `tokenizers.Tokenizer` of at most `size` tokens; the same texts give the same one. It adds nothing
    to a text: an end after a prompt, as CLIP's has it, would make every answer an empty one.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    before = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = Counter(word for text in texts for word, _ in before.pre_tokenize_str(text))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = pair_merges(words, max(0, size - len(SPECIAL) - len(letters)), end="")
    names = dict.fromkeys([*SPECIAL, *letters, *(one + other for one, other in merges)])
    made = Tokenizer(models.BPE({token: number for number, token in enumerate(names)}, merges))
    made.normalizer, made.pre_tokenizer, made.decoder = normalizers.NFC(), before, decoders.ByteLevel()
    made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in SPECIAL])
    return made


def corpus(count: int = 3000) -> Iterator[str]:
    """What is said of training scenes, in each language."""
    for seed in range(count):
        for language in LANGUAGES:
            talk = Talk(np.random.default_rng([7, seed]), language)
            for turn in talk.turns(scene(seed), 4):
                yield turn.question
                yield turn.answer
            yield talk.wanted().request
            yield talk.changed(scene(seed)).request
            yield talk.phrases.no_picture


def fast(made: Any) -> Any:
    """As transformers takes it."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token=PAD,
        eos_token=END,
        unk_token=None,
        model_max_length=1024,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATE,
    )
