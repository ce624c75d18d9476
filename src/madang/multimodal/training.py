"""The loop of every training here: it shows how it goes, survives a kill, and looks at itself now and then."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from madang.base.errors import Conflict, Corrupt, InvalidInput

CHECKPOINT, HISTORY = "checkpoint.pt", "history.jsonl"


@dataclass(frozen=True)
class Recipe:
    """How to train. The learning rate rises over `warmup` steps, then falls to a hundredth along half a cosine."""

    steps: int = 2000
    batch: int = 256
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0
    bfloat16: bool = True
    threads: int = 0  # 0: as torch likes

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 2), ("warmup", 0), ("threads", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name}: at least {least}, not {getattr(self, name)}.")
        if not 0 < self.learning_rate < 1:
            raise InvalidInput(f"learning_rate: between 0 and 1, not {self.learning_rate}.")

    def share(self, step: int) -> float:
        """Of the learning rate, at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Told:
    """How it goes, after a step."""

    step: int
    steps: int
    seconds: float  # of training, over all runs
    loss: float
    scores: dict[str, float]  # of the last look, which may have been some steps ago


Tell: TypeAlias = Callable[[Told], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a training: the scores on what was held out, and the names and faults of pictures that could not be
    read."""

    folder: Path
    scores: dict[str, float]
    broken: list[tuple[str, str]]


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """All that has weights. Those that require no gradient are kept in the checkpoint, too."""
        ...

    def loss(self, step: int) -> Tensor:
        """Of step number `step`. The same number gives the same data and chance, so that training can go on where it
        stopped."""
        ...

    def after(self, step: int) -> None:
        """What remains to be done after the weights have changed."""
        ...


def train(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    look: Callable[[int], dict[str, float]] | None = None,
    every: int = 200,
    keep_s: float = 120.0,
    about: Mapping[str, Any] | None = None,
    tell: Tell | None = None,
) -> None:
    """Train the task's modules in place, and go on from the folder's checkpoint where there is one.

    `look` is asked every `every` steps and in the end; what it finds goes to history.jsonl. A checkpoint is written
    then, and every `keep_s` seconds. `about`: what else decides what is learnt, the data say. Raises `Conflict` where
    the checkpoint is of another recipe or about something else, `Corrupt` where it is damaged.
    """
    run = _Run(task, recipe, folder, about or {})
    run.resume()
    kept, scores = time.monotonic(), {}
    while run.step < recipe.steps:
        loss = run.one()
        last = run.step == recipe.steps
        looked = look is not None and (last or run.step % every == 0)
        if look is not None and looked:
            scores = look(run.step)
            run.note(loss, scores)
        if looked or last or time.monotonic() - kept > keep_s:
            run.keep()
            kept = time.monotonic()
        if tell is not None:
            tell(Told(run.step, recipe.steps, run.seconds, loss, scores))
    for module in task.modules.values():
        module.eval()


def chance(seed: int, step: int) -> torch.Generator:
    """Torch's random numbers of one step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


class _Run:
    def __init__(self, task: Task, recipe: Recipe, folder: Path, about: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.task, self.recipe, self.folder = task, recipe, folder
        self.about = dict(about) | asdict(recipe)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.trained = [each for module in task.modules.values() for each in module.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [each for each in self.trained if each.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [each for each in self.trained if each.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=True,
        )
        self.step, self.seconds = 0, 0.0

    def one(self) -> float:
        """A step; returns its loss."""
        begun = time.perf_counter()
        for module in self.task.modules.values():
            module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * self.recipe.share(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.task.loss(self.step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.task.after(self.step)
        self.step += 1
        self.seconds += time.perf_counter() - begun
        return float(loss.detach())

    def note(self, loss: float, scores: dict[str, float]) -> None:
        """A line of history."""
        told = {"step": self.step, "seconds": round(self.seconds, 1), "loss": round(loss, 5), **scores}
        with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    def keep(self) -> None:
        """Everything needed to go on, written beside and renamed."""
        path = self.folder / CHECKPOINT
        part = path.with_suffix(".part")
        torch.save(
            {
                "modules": {name: module.state_dict() for name, module in self.task.modules.items()},
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "recipe": self.about,
            },
            part,
        )
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)

    def resume(self) -> None:
        """From the checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            found: dict[str, Any] = torch.load(path, weights_only=True)
            recipe, modules = found["recipe"], found["modules"]
        except Exception as error:
            raise Corrupt(
                f"{path} is damaged ({type(error).__name__}: {error}).", remedy="Delete it to begin anew."
            ) from None
        other = [name for name in self.about if name != "threads" and recipe.get(name) != self.about[name]]
        if other:
            said = ", ".join(f"{name} {recipe.get(name)} (now {self.about[name]})" for name in other)
            raise Conflict(
                f"{path} was begun with other settings: {said}.",
                remedy="Give the same ones to go on, or another folder to begin anew.",
            )
        for name, module in self.task.modules.items():
            module.load_state_dict(modules[name])
        self.optimizer.load_state_dict(found["optimizer"])
        self.step, self.seconds = found["step"], found["seconds"]
        self._forget_later()

    def _forget_later(self) -> None:
        """Lines of history after the checkpoint, which are written again, and one that a power cut tore."""
        path = self.folder / HISTORY
        lines = [json.dumps(line) for line in read_history(path) if line["step"] <= self.step]
        part = path.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        part.replace(path)


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history; what is torn is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
