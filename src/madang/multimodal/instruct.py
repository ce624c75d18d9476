"""Instruction data for a model that sees, written from captions and positions (Liu et al. 2023, section 3).

The paper has a language model write it: it gets the caption and where things are, in words and boxes, and writes as if
it saw the picture. Any chat model can be that writer; without one, it is the grammar of the scenes, for pictures of
scenes.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from madang.base.errors import Conflict, InvalidInput, MadangError
from madang.base.messages import ChatOptions, Message
from madang.models.protocol import ChatModel
from madang.multimodal.pairs import Captioned
from madang.multimodal.scenes.dataset import told_scene
from madang.multimodal.scenes.read import read
from madang.multimodal.scenes.talk import KINDS, Kind, Talk, Turn
from madang.multimodal.scenes.words import Language
from madang.multimodal.scenes.world import CENTRES, RADII, Scene, Thing
from madang.text.korean import has_hangul

Writer: TypeAlias = Callable[[Captioned, Kind], list[Turn]]  # raises `InvalidInput` where it cannot
_AT_ONCE = 8


@dataclass
class Written:
    """What came of it. `failed`: how many, by why."""

    conversations: int = 0
    turns: int = 0
    kept: int = 0  # that were there already
    failed: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "conversations": self.conversations,
            "turns": self.turns,
            "kept": self.kept,
            "failed": dict(self.failed),
        }


def write(
    pictures: Sequence[Captioned],
    out: Path,
    writer: Writer,
    *,
    kinds: Sequence[Kind] = KINDS,
    base: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Written:
    """Append a conversation of each kind about each picture to `out`, JSON Lines in LLaVA's format.

    What is there already is not written again, so that it can be stopped and gone on with. `base`: the folder that the
    names of pictures are of; the file must be in it, since readers look for pictures beside it.

    Raises `InvalidInput`, `Conflict` where the file holds something else.
    """
    if base is not None and not base.resolve().is_relative_to(out.parent.resolve()):
        raise InvalidInput(
            f"OUT: {out} is not beside the pictures, where readers of this format look for them.",
            remedy=f"Write it to {base / out.name}.",
        )
    prefix = "" if base is None else base.resolve().relative_to(out.parent.resolve()).as_posix()
    prefix = "" if prefix == "." else prefix
    rows = next((each.name for each in pictures if "#" in each.name), None)
    if rows is not None:
        raise InvalidInput(f"PICTURES: {rows} is no file of its own, and readers of this format look for files.",
                           remedy="Give a folder of pictures.")
    there = _there(out)
    found = Written(kept=len(there))
    wanted = [(each, kind) for each in pictures for kind in kinds if _id(each.name, kind) not in there]

    def asked(one: tuple[Captioned, Kind]) -> tuple[Captioned, Kind, list[Turn] | MadangError]:
        try:
            return *one, writer(*one)
        except MadangError as error:
            return *one, error

    with out.open("a", encoding="utf-8") as file, ThreadPoolExecutor(_AT_ONCE) as pool:
        for each, kind, turns in _ahead(pool, asked, wanted):
            if progress is not None:
                progress(1)
            if isinstance(turns, MadangError):
                found.failed[turns.message] += 1
                continue
            name = f"{prefix}/{each.name}" if prefix else each.name
            file.write(
                json.dumps(
                    {"id": _id(each.name, kind), "image": name, "kind": kind, "conversations": _told(turns)},
                    ensure_ascii=False,
                )
                + "\n"
            )
            file.flush()
            found.conversations, found.turns = found.conversations + 1, found.turns + len(turns)
    return found


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """The results in their order, some of them made ahead: `map` would ask for all at once and could not be stopped."""
    waiting: list[Any] = []
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= 2 * _AT_ONCE:
            yield waiting.pop(0).result()
    for each in waiting:
        yield each.result()


def _id(name: str, kind: Kind) -> str:
    return f"{name}#{kind}"


def _told(turns: Sequence[Turn]) -> list[dict[str, str]]:
    found = []
    for at, turn in enumerate(turns):
        found.append({"from": "human", "value": f"<image>\n{turn.question}" if at == 0 else turn.question})
        found.append({"from": "gpt", "value": turn.answer})
    return found


def _there(out: Path) -> set[str]:
    """Ids in the file. A line that a power cut tore is cut off. Raises `Conflict` for anything else."""
    if not out.exists():
        return set()
    *lines, last = out.read_bytes().split(b"\n")
    found = set()
    for number, line in enumerate(lines, start=1):
        found.add(_id_of(line, out, number))
    if last:
        try:
            found.add(_id_of(last, out, len(lines) + 1))
            lines.append(last)
        except Conflict:
            if not (last.startswith(_BEGINNING) or _BEGINNING.startswith(last)):
                raise
        part = out.with_name(f"{out.name}.{secrets.token_hex(4)}.part")
        part.write_bytes(b"".join(line + b"\n" for line in lines))
        part.replace(out)
    return found


_BEGINNING = b'{"id": "'            # of each line


def _id_of(line: bytes, out: Path, number: int) -> str:
    try:
        found = json.loads(line)
        if isinstance(found["conversations"], list) and isinstance(found["id"], str):
            return str(found["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Conflict(f"OUT: {out}, line {number} is no conversation.", remedy="Name another file.")


class Grammar:
    """The offline writer. It needs to know the scene: from what the data set says, or from its caption."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def __call__(self, picture: Captioned, kind: Kind) -> list[Turn]:
        """Raises `InvalidInput` where nobody knows what is there."""
        made, language = scene_of(picture)
        talk = Talk(np.random.default_rng([self._seed, KINDS.index(kind), *picture.name.encode()]), language)
        found: dict[str, Turn] = {}
        for _ in range(4 if kind == "conversation" else 2 if kind == "reasoning" else 1):
            turn = talk.turn(made, kind)
            found.setdefault(turn.question, turn)
        return list(found.values())


def scene_of(picture: Captioned) -> tuple[Scene, Language]:
    """What a picture shows, and the language of its caption. Raises `InvalidInput` where that is no whole scene."""
    language: Language = "ko" if has_hangul(picture.text) else "en"
    told = told_scene(picture.about)
    if told is not None:
        return told, language
    claim = read(picture.text, language)
    try:
        return Scene.of(
            str(claim.background),
            str(claim.time),
            [Thing(str(part.shape), str(part.colour), str(part.size), str(part.position)) for part in claim.things],
        ), language
    except ValueError:
        raise InvalidInput(
            "the grammar only knows painted scenes (madang data scenes).",
            remedy="Name a chat model that writes: --writer SERVICE/MODEL",
        ) from None


_ASK: Mapping[Kind, str] = {
    "caption": "Write one request for a short description of the picture and its answer in one sentence.",
    "conversation": "Write three questions that a person who looks at the picture may ask, and their answers: what is "
    "there, how many, of which colour, where, doing what. Ask only what has a certain answer.",
    "detail": "Write one request for a detailed description of the picture and its answer in several sentences.",
    "reasoning": "Write one question that needs more than looking: reasons, purposes, comparisons, what may have come "
    "before or will come next. Answer it step by step, from what can be seen.",
}
_SYSTEM = (
    "You write training data for an assistant that sees pictures. You are told what a picture shows: a caption, and "
    "perhaps where things are, as boxes (left, top, right, bottom; shares of the picture's sides). Write as if you saw "
    "the picture: never mention the caption or the boxes. {ask} Write in {language}. Answer with a JSON array and "
    'nothing else: [{{"question": "...", "answer": "..."}}]'
)


class Model:
    """A chat model as the writer, as in the paper."""

    def __init__(self, model: ChatModel, language: str = "", options: ChatOptions | None = None) -> None:
        self._model, self._language = model, language
        self._options = options or ChatOptions(temperature=0.7, max_tokens=800)

    def __call__(self, picture: Captioned, kind: Kind) -> list[Turn]:
        """Raises `InvalidInput` for an answer that is not what was asked for, `ServiceError` where there is none."""
        language = self._language or ("Korean" if has_hangul(picture.text) else "English")
        messages = [
            Message("system", _SYSTEM.format(ask=_ASK[kind], language=language)),
            Message("user", "\n".join([f"Caption: {picture.text}", *_boxes(picture)])),
        ]
        text = "".join(delta.text for delta in self._model.chat(messages, self._options))
        return _turns(text, kind)


def _turns(text: str, kind: Kind) -> list[Turn]:
    start, end = text.find("["), text.rfind("]")
    try:
        found = [
            Turn(kind, _said(each["question"]), _said(each["answer"])) for each in json.loads(text[start : end + 1])
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("the writer did not answer with a JSON array of questions and answers.") from None
    if not found or not all(turn.question and turn.answer for turn in found):
        raise InvalidInput("the writer left a question or an answer empty.")
    return found


def _said(value: object) -> str:
    """Text that can be written, without the sign for a picture. Raises `TypeError`, `ValueError`."""
    if not isinstance(value, str):
        raise TypeError("no text")
    value.encode()
    return value.replace("<image>", "").strip()


def _boxes(picture: Captioned) -> list[str]:
    """A line for each thing whose place is known: of scenes, or what the data set says under "boxes"."""
    told = picture.about.get("boxes")
    if isinstance(told, list):
        return [f"{each.get('label', 'thing')}: {each.get('box')}" for each in told if isinstance(each, dict)]
    made = told_scene(picture.about)
    if made is None:
        return []
    found = []
    for thing in made.things:
        x, y = CENTRES[thing.position]
        far = RADII[thing.size]
        found.append(
            f"{thing.size} {thing.colour} {thing.shape}: [{x - far:.2f}, {y - far:.2f}, {x + far:.2f}, {y + far:.2f}]"
        )
    return found
