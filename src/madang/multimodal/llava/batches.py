"""What a step of training sees: conversations about pictures as token ids, and which of them are to be learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from madang.base.errors import InvalidInput
from madang.models.providers.output_projector import PICTURE
from madang.multimodal.clip.pool import Pool
from madang.multimodal.llava.model import Seer
from madang.multimodal.scenes.talk import Talk
from madang.multimodal.scenes.words import LANGUAGES

Stage: TypeAlias = Literal["language", "align", "instruct"]
STAGES: tuple[Stage, ...] = ("language", "align", "instruct")
SILENT = -100  # torch's ignore_index
ALIKE = 4


@dataclass(slots=True)
class Conversation:
    """Questions and answers about at most one picture, which comes before the first question. `wanted`: what the
    picture shall show that the last answer is, in words; empty where it is words.
    """

    turns: list[tuple[str, str]]
    picture: bool = True
    wanted: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """n conversations. ids, mask and labels: int64 (n, longest); pictures: uint8 (k, side, side, 3) of the k that have
    one, in their order; wanted: the texts of those that end with a picture.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    pictures: Tensor
    wanted: list[str] = field(default_factory=list)


class Source(Protocol):
    """Where conversations come from."""

    def conversations(self, step: int, size: int, stage: Stage) -> tuple[list[Conversation], Tensor]:
        """`size` of step number `step`, and the pictures (uint8 (k, side, side, 3)) of those that have one. The same
        for the same number, so that training can go on where it stopped.
        """
        ...


class Scenes:
    """Conversations about painted scenes, without end. Those of a step are of about the same length, so that little is
    padded: those of `ALIKE` steps are made together, and divided by length.
    """

    def __init__(self, pool: Pool, seed: int = 0) -> None:
        self.pool, self.seed = pool, seed
        self._made: tuple[tuple[int, int, Stage], list[tuple[int, Conversation]]] | None = None

    def conversations(self, step: int, size: int, stage: Stage) -> tuple[list[Conversation], Tensor]:
        """See `Source.conversations`."""
        group, part = divmod(step, ALIKE)
        key = (group, size, stage)
        if self._made is None or self._made[0] != key:
            self._made = key, self._together(*key)
        first = size * int(np.random.default_rng([self.seed, group]).permutation(ALIKE)[part])
        chosen = self._made[1][first : first + size]
        shown = [row for row, each in chosen if each.picture]
        return [each for _, each in chosen], torch.from_numpy(self.pool.pictures[shown])

    def _together(self, group: int, size: int, stage: Stage) -> list[tuple[int, Conversation]]:
        generator = np.random.default_rng([self.seed, STAGES.index(stage), group])
        rows = generator.integers(len(self.pool), size=size * ALIKE)
        found = [(int(row), self._one(int(row), generator, stage)) for row in rows]
        return sorted(found, key=lambda each: _long(each[1]))

    def _one(self, row: int, generator: np.random.Generator, stage: Stage) -> Conversation:
        talk, made = Talk(generator, LANGUAGES[int(generator.integers(len(LANGUAGES)))]), self.pool.made[row]
        if stage == "align":
            turn = talk.turn(made, "caption")
            return Conversation([(turn.question, turn.answer)])
        turns = [(turn.question, turn.answer) for turn in talk.turns(made, 1 + int(generator.integers(3)))]
        chance = generator.random()
        if stage == "language":
            return Conversation(turns, picture=False)
        if chance < 0.74:
            return Conversation(turns)
        if chance < 0.76:
            return Conversation([(turns[0][0], talk.phrases.no_picture)], picture=False)
        picture = "".join(PICTURE)
        if chance < 0.88:
            asked = talk.wanted()
            return Conversation([(asked.request, picture)], picture=False, wanted=asked.said)
        asked = talk.changed(made)
        before = turns[:1] if generator.random() < 0.3 else []
        return Conversation([*before, (asked.request, picture)], wanted=asked.said)


def _long(conversation: Conversation) -> float:
    """About how many tokens there will be: a letter of Korean is three bytes."""
    return 64 * conversation.picture + sum(len(each.encode()) / 4 for turn in conversation.turns for each in turn)


def pieces(processor: Any, conversation: Conversation) -> list[tuple[str, bool]]:
    """Text as the model's template writes it, in pieces; and whether each is to be learnt.

    Raises `InvalidInput` for a template that writes a turn otherwise once another follows.
    """
    messages: list[dict[str, Any]] = []
    found: list[tuple[str, bool]] = []
    done = ""
    for at, (question, answer) in enumerate(conversation.turns):
        picture = [{"type": "image"}] if conversation.picture and at == 0 else []
        messages.append({"role": "user", "content": [*picture, {"type": "text", "text": question}]})
        asked = processor.apply_chat_template(messages, add_generation_prompt=True)
        messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        answered = processor.apply_chat_template(messages)
        if not asked.startswith(done) or not answered.startswith(asked):
            raise InvalidInput(
                "the chat template of this model changes what came before, so that it cannot be learnt from.",
                remedy="Use a model with a template that only adds.",
            )
        found += [(asked[len(done) :], False), (answered[len(asked) :], True)]
        done = answered
    return found


def batch(seer: Seer, conversations: Sequence[Conversation], pictures: Tensor) -> Batch:
    """Padded on the right; a picture's token is there as often as it has patches. What is longer than the model takes
    is cut at its end."""
    tokenizer, image = seer.processor.tokenizer, seer.processor.image_token
    rows: list[tuple[list[int], list[int]]] = []
    for each in conversations:
        ids: list[int] = []
        labels: list[int] = []
        for text, learnt in pieces(seer.processor, each):
            # The template puts a picture's mark at the beginning; anywhere else it is a word that somebody wrote.
            before, mark, after = text.partition(image) if each.picture and not ids else ("", "", text)
            text = before + mark * seer.patches + after.replace(image, "")
            found = tokenizer.encode(text, add_special_tokens=False)
            ids += found
            labels += found if learnt else [SILENT] * len(found)
        rows.append((ids[: seer.room], labels[: seer.room]))
    longest = max(len(ids) for ids, _ in rows)
    return Batch(
        torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows]),
        torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]),
        torch.tensor([labels + [SILENT] * (longest - len(labels)) for _, labels in rows]),
        pictures,
        [each.wanted for each in conversations if each.wanted],
    )
