"""What a step of training sees: conversations about pictures as token ids, and which of them are to be learnt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from madang.base.errors import InvalidInput
from madang.models.pictures import PictureSettings, shaped
from madang.models.providers.output_projector import PICTURE
from madang.multimodal.clip.pool import Pool
from madang.multimodal.llava.model import Seer
from madang.multimodal.scenes.pages import PANELS, page
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.talk import Talk, Turn, Wanted
from madang.multimodal.scenes.words import LANGUAGES
from madang.multimodal.scenes.world import Scene

Stage: TypeAlias = Literal["language", "align", "instruct"]
STAGES: tuple[Stage, ...] = ("language", "align", "instruct")
SILENT = -100  # torch's ignore_index
ALIKE = 4
CHECKS = 0.7  # share of conversations that are about whether claims are true
STRESS = 12.0  # how much a yes or a no counts
COMPARISONS = 9  # in a conversation that practises them
REQUESTS = 2  # to draw, in a conversation without a picture, which is short


@dataclass(slots=True)
class Conversation:
    """Questions and answers about at most one picture, which comes before the first question. `wanted`: what the
    pictures shall show that answers end with, in words, in their order.
    """

    turns: list[tuple[str, str]]
    picture: bool = True
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """n conversations. ids, mask and labels: int64 (n, longest); weights: float32 (n, longest), what each label counts;
    pictures: uint8 (k, side, side, 3) of the k that have one, in their order; wanted: what the pictures shall show that
    are said, in their order.
    """

    ids: Tensor
    mask: Tensor
    labels: Tensor
    weights: Tensor
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
            return Conversation(_said([talk.turn(made, "caption")]))
        chance = generator.random()
        if stage == "language":
            if chance < 0.4:
                return _requests(talk)
            turns = _unseen(talk, made) if chance < 0.7 else [talk.comparisons(COMPARISONS)]
            return Conversation(_said(turns), picture=False)
        if chance < 0.6:
            return Conversation(_said(_about(talk, made)))
        if chance < 0.62:
            return Conversation([(_about(talk, made)[0].question, talk.phrases.no_picture)], picture=False)
        if chance < 0.82:
            return _requests(talk)
        asked = talk.changed(made)
        before = _about(talk, made)[:1] if generator.random() < 0.3 else []
        return Conversation([*_said(before), _drawn(asked)], wanted=(asked.said,))


class Pages:
    """Conversations about pages of four scenes, each about one of them or two; none asks for a drawing."""

    def __init__(self, pool: Pool, side: int, seed: int = 0) -> None:
        """`side`: pixels of a page as the model takes it; what is finer is lost."""
        self.pool, self.side, self.seed = pool, side, seed

    def conversations(self, step: int, size: int, stage: Stage) -> tuple[list[Conversation], Tensor]:
        """See `Source.conversations`. Captions alone where the projector is learnt."""
        generator = np.random.default_rng([self.seed, 4 + STAGES.index(stage), step])
        talks, shown = [], []
        for rows in generator.integers(len(self.pool), size=(size, len(PANELS))):
            talk = Talk(generator, LANGUAGES[int(generator.integers(len(LANGUAGES)))])
            turns = []
            for at in generator.permutation(len(PANELS))[: 1 if stage == "align" else 2]:
                made = self.pool.made[rows[at]]
                caption = stage == "align" or generator.random() < 0.5
                turn = talk.turn(made, "caption") if caption else talk.turns(made, 1)[0]
                turns.append((talk.on_page(PANELS[at], turn.question), turn.answer))
            talks.append(Conversation(turns, picture=stage != "language"))
            if stage != "language":
                shown.append(self._shown(page(self.pool.pictures[rows])))
        return talks, torch.from_numpy(np.stack(shown) if shown else np.array(self.pool.pictures[:0]))

    def _shown(self, made: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return shaped(made, PictureSettings(self.side, self.side, self.side))


def _about(talk: Talk, made: Scene) -> list[Turn]:
    """One or two turns about a scene, or two questions whether something is true."""
    if talk.generator.random() < CHECKS:
        return talk.checks(made, 2)
    return talk.turns(made, 1 + int(talk.generator.integers(2)))


def _unseen(talk: Talk, made: Scene) -> list[Turn]:
    """What can be answered without the picture, since the first answer says everything."""
    return [talk.turn(made, "caption"), *_about(talk, made)]


def _requests(talk: Talk) -> Conversation:
    """Requests to draw, which have nothing to do with one another."""
    asked = [talk.wanted() for _ in range(REQUESTS)]
    return Conversation([_drawn(each) for each in asked], picture=False, wanted=tuple(each.said for each in asked))


def _drawn(asked: Wanted) -> tuple[str, str]:
    """A request, and as its answer what is going to be drawn, in words, and the picture."""
    return asked.request, f"{asked.said} {''.join(PICTURE)}"


def _said(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in turns]


def _long(conversation: Conversation) -> float:
    """About how many words there will be; most are one token."""
    return _PATCHES * conversation.picture + sum(
        len(_WORDS.findall(each)) for turn in conversation.turns for each in turn
    )


_WORDS = re.compile("|".join([*map(re.escape, PICTURE), r"\w+", r"[^\w\s]"]))
_PATCHES = 53  # in words


def pieces(processor: Any, conversation: Conversation) -> list[tuple[str, float]]:
    """Text as the model's template writes it, in pieces; and how much each counts, 0 for what is not to be learnt.

    A yes or no that follows a colon counts `STRESS` times: nearly all words of an answer are easy once the first are
    learnt, and these, which need a comparison, would stay at chance. Raises `InvalidInput` for a template that writes a
    turn otherwise once another follows.
    """
    messages: list[dict[str, Any]] = []
    found: list[tuple[str, float]] = []
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
        found.append((asked[len(done) :], 0.0))
        # What is split at is every second part.
        told = enumerate(_VERDICT.split(answered[len(asked) :]))
        found += [(part, STRESS if number % 2 else 1.0) for number, part in told if part]
        done = answered
    return found


_VERDICT = re.compile(
    "((?<=:) (?:{}))(?=[.])".format("|".join(word for each in PHRASES.values() for word in each.verdicts.values()))
)


def batch(seer: Seer, conversations: Sequence[Conversation], pictures: Tensor) -> Batch:
    """Padded on the right; a picture's token is there as often as it has patches. What is longer than the model takes
    is cut at its end, and before a picture that would be cut in two."""
    tokenizer, image = seer.processor.tokenizer, seer.processor.image_token
    drawn = tokenizer.convert_tokens_to_ids(PICTURE[0])
    rows: list[tuple[list[int], list[float]]] = []
    wanted: list[str] = []
    for each in conversations:
        ids: list[int] = []
        counts: list[float] = []
        for text, counting in pieces(seer.processor, each):
            # The template puts a picture's mark at the beginning; anywhere else it is a word that somebody wrote.
            before, mark, after = text.partition(image) if each.picture and not ids else ("", "", text)
            text = before + mark * seer.patches + after.replace(image, "")
            found = tokenizer.encode(text, add_special_tokens=False)
            ids += found
            counts += [counting] * len(found)
        end = seer.room
        if len(ids) > end and drawn in (last := ids[end - len(PICTURE) + 1 : end]):
            end -= len(last) - last.index(drawn)
        rows.append((ids[:end], counts[:end]))
        wanted += each.wanted[: ids[:end].count(drawn)]
    longest = max(len(ids) for ids, _ in rows)
    return Batch(
        torch.tensor([ids + [tokenizer.pad_token_id] * (longest - len(ids)) for ids, _ in rows]),
        torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]),
        torch.tensor([_labels(*row) + [SILENT] * (longest - len(row[0])) for row in rows]),
        torch.tensor([counts + [0.0] * (longest - len(counts)) for _, counts in rows]),
        pictures,
        wanted,
    )


def _labels(ids: list[int], counts: list[float]) -> list[int]:
    return [each if counting else SILENT for each, counting in zip(ids, counts, strict=True)]
