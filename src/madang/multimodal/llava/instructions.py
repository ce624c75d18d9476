"""Instruction data in LLaVA's format: pictures with conversations about them.

A JSON array or JSON Lines of {"id", "image", "conversations": [{"from": "human" or "gpt", "value"}, ...]}, where
"<image>" stands for the picture in the first question. `image` is a path beside the file.
https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from madang.base.errors import InvalidInput, NotFound, Unreadable
from madang.multimodal.clip.captions import decoded
from madang.multimodal.llava.batches import Conversation, Stage
from madang.multimodal.pairs import Captioned

_IMAGE = "<image>"


def read_instructions(path: Path) -> list[Captioned]:
    """Each picture with its turns in `about["turns"]`, a list of (question, answer).

    Raises `NotFound`, `Unreadable` for a file that is not this, naming the entry.
    """
    if not path.is_file():
        raise NotFound(f"data: there is no file {path}.", remedy="Make one with: madang data instruct")
    found = [_one(entry, number, path) for number, entry in enumerate(_entries(path), start=1)]
    if len(found) < 2:
        raise InvalidInput(f"data: {path} has {len(found)} conversations; at least 2 are needed.")
    return found


def _entries(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            found: list[Any] = json.loads(text)
            return found
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, OSError, RecursionError) as error:
        raise Unreadable(f"{path} is neither a JSON array nor JSON Lines: {error}.") from None


def _one(entry: Any, number: int, path: Path) -> Captioned:
    try:
        name, said = str(entry["image"]), entry["conversations"]
        turns = [
            (str(asked["value"]).replace(_IMAGE, "").strip(), str(told["value"]).strip())
            for asked, told in zip(said[::2], said[1::2], strict=True)
        ]
        json.dumps(turns, ensure_ascii=False).encode()       # half a surrogate pair is no text
        kinds = [each["from"] for each in said]
        if not turns or kinds != ["human", "gpt"] * len(turns):
            raise ValueError("turns must be of human and gpt, one after the other")
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(
            f"{path}, entry {number}: not a conversation of LLaVA ({error}).",
            remedy='Each has "image" and "conversations", human and gpt in turn.',
        ) from None
    picture = path.parent / name
    if "\0" in name or not picture.resolve().is_relative_to(path.parent.resolve()):
        raise InvalidInput(
            f"{path}, entry {number}: {name!r:.200} is outside the file's folder.",
            remedy="Put the pictures beside the file, or below it.",
        )
    return Captioned(name, json.dumps(turns, ensure_ascii=False), picture.read_bytes, {"turns": turns})


class Instructions:
    """See `batches.Source`: every conversation comes once before any comes again."""

    def __init__(
        self,
        found: Sequence[Captioned],
        folder: Path,
        side: int,
        *,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
        least: int = 2,
    ) -> None:
        """Raises `InvalidInput` where fewer than `least` pictures can be read."""
        self.pictures, kept, self.broken = decoded(found, folder, side, progress, least)
        self.turns: list[list[tuple[str, str]]] = [each.about["turns"] for each in kept]
        self.seed = seed

    def __len__(self) -> int:
        return len(self.turns)

    def conversations(self, step: int, size: int, stage: Stage) -> tuple[list[Conversation], Tensor]:
        """See `Source.conversations`. The first turn alone where captions are learnt."""
        rounds, at = divmod(step * size, len(self))
        rows = np.concatenate(
            [
                np.random.default_rng([self.seed, rounds + more]).permutation(len(self))
                for more in range(size // len(self) + 2)
            ]
        )[at : at + size]
        told = [self.turns[row][:1] if stage == "align" else self.turns[row] for row in rows]
        return (
            [Conversation(turns, picture=stage != "language") for turns in told],
            torch.from_numpy(self.pictures[rows] if stage != "language" else self.pictures[:0]),
        )
