"""Training a small language model from start to finish: the text, the steps with a look now and then, what is kept.

In the folder: the model in Hugging Face's format, and training/ with checkpoint, history.jsonl and curves.html.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from madang.base.errors import InvalidInput, NotFound
from madang.multimodal import curves, training
from madang.multimodal.mamba import language
from madang.multimodal.mamba.language import END, SPECIAL, Kind
from madang.multimodal.training import Outcome, Tell

HELD_OUT = 0.05  # of the files
LOOKED_AT = 32  # windows for a look
PYTHON = "python"
_MOST = 64 << 20  # bytes of a file


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """How to train. `batch` windows of `length` bytes are a step."""

    steps: int = 1500
    batch: int = 8
    learning_rate: float = 2e-3
    length: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 8:
            raise InvalidInput(f"length: at least 8, not {self.length}.")


@dataclass(frozen=True)
class Wish:
    """What to train. `data`: "python" for the source of the standard library, or a text file, or a folder of them."""

    out: Path
    kind: Kind = "mamba"
    data: str = PYTHON
    recipe: Recipe = field(default_factory=Recipe)
    width: int = 96
    layers: int = 6
    every: int = 200


def run(wish: Wish, *, tell: Tell | None = None, say: Callable[[str], None] = lambda _: None) -> Outcome:
    """Train, or go on where it was stopped; `say` gets a line for each part."""
    folder = wish.out / "training"
    folder.mkdir(parents=True, exist_ok=True)
    learn, held, broken = texts(wish.data)
    say(f"reading {len(learn):,} bytes, and {len(held):,} that are held out")
    length = wish.recipe.length
    for part, found in (("learn from", learn), ("hold out", held)):
        if len(found) <= length:
            raise InvalidInput(
                f"data: {wish.data} has {len(found):,} bytes to {part}, fewer than a window of {length}.",
                remedy="Give more text, or a smaller --length.",
            )
    model = language.small(wish.kind, width=wish.width, layers=wish.layers, seed=wish.recipe.seed)
    seen = windows(held, LOOKED_AT, length)
    say(f"training: {language.size(model):,} parameters, {wish.recipe.steps:,} steps of {wish.recipe.batch} x {length}")
    task = Reading(language.quick(model), learn, wish.recipe)
    scores: dict[str, float] = {}

    def look(_: int) -> dict[str, float]:
        model.eval()
        scores["bits per byte"] = float(language.surprise(model, seen).mean())
        curves.write(folder)
        return dict(scores)

    about = {"kind": wish.kind, "data": wish.data, "width": wish.width, "layers": wish.layers}
    training.train(task, wish.recipe, folder, look=look, every=wish.every, about=about, tell=tell)
    curves.write(folder)
    say("saving")
    plain = language.small(wish.kind, width=wish.width, layers=wish.layers, seed=wish.recipe.seed)
    plain.load_state_dict(model.state_dict())
    language.save(plain, wish.out)
    return Outcome(wish.out, scores or look(0), broken)


class Reading:
    """The next byte from those before it."""

    def __init__(self, model: Any, text: NDArray[np.uint8], recipe: Recipe) -> None:
        self.model, self.text, self.recipe = model, text, recipe

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"model": self.model}

    def loss(self, step: int) -> Tensor:
        recipe = self.recipe
        at = np.random.default_rng([recipe.seed, step]).integers(len(self.text) - recipe.length, size=recipe.batch)
        read = _ids(self.text, at, recipe.length + 1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
            found = self.model(input_ids=read[:, :-1], use_cache=False).logits
        return cross_entropy(found.float().flatten(0, 1), read[:, 1:].flatten())

    def after(self, step: int) -> None:
        pass


def windows(text: NDArray[np.uint8], count: int, length: int) -> Tensor:
    """`count` windows of ids, (count, length), at equal distances."""
    return _ids(text, np.linspace(0, len(text) - length, count).astype(int), length)


def _ids(text: NDArray[np.uint8], starts: NDArray[np.int64], length: int) -> Tensor:
    found = torch.from_numpy(np.stack([text[at : at + length] for at in starts]).astype(np.int64))
    return torch.where(found == 0, END, found + SPECIAL)


def texts(data: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[tuple[str, str]]]:
    """What to learn from and what is held out, files joined by a zero byte, and what could not be read.

    Raises `NotFound`, `InvalidInput` where there is too little.
    """
    broken: list[tuple[str, str]] = []
    found = []
    for name, path in _files(data):
        try:
            if path.stat().st_size > _MOST:
                raise ValueError(f"larger than {_MOST >> 20} MB")
            said = path.read_bytes()
            said.decode("utf-8")
        except (OSError, ValueError) as error:
            broken.append((name, str(error)))
            continue
        if said.strip(b"\0"):
            found.append(said.replace(b"\0", b" "))
    if not found:
        raise InvalidInput(f"data: there is no text in {data}.", remedy="Give a file of UTF-8 text, or a folder.")
    if len(found) == 1:
        cut = round((1 - HELD_OUT) * len(found[0]))
        found = [found[0][:cut], found[0][cut:]]
        away = {1}
    else:
        away = set(np.random.default_rng(0).permutation(len(found))[: max(1, round(HELD_OUT * len(found)))].tolist())
    learn, held = ([each for at, each in enumerate(found) if (at in away) is hidden] for hidden in (False, True))
    return _joined(learn), _joined(held), broken


def _joined(found: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"\0".join(found), np.uint8)


def _files(data: str) -> list[tuple[str, Path]]:
    """By their names, in order."""
    if data == PYTHON:
        base = Path(sysconfig.get_paths()["stdlib"])
        away = {"test", "tests", "idle_test", "site-packages", "lib2to3", "__pycache__", "pydoc_data"}
        found = [each for each in base.rglob("*.py") if not away & set(each.relative_to(base).parts)]
    else:
        base = Path(data)
        if base.is_file():
            return [(base.name, base)]
        if not base.is_dir():
            raise NotFound(f"data: there is no file or folder {data}.", remedy='Give one, or "python".')
        found = [each for each in base.rglob("*") if each.is_file() and not _is_hidden(each.relative_to(base))]
    return sorted((each.relative_to(base).as_posix(), each) for each in found)


def _is_hidden(path: Path) -> bool:
    """Or in a folder that is, such as .git."""
    return any(part.startswith(".") for part in path.parts)
