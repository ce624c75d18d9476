"""Contrastive training (Radford et al. 2021) that shows how it goes, survives a kill, and looks at itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import normalize

from madang.base.errors import Conflict, Corrupt, InvalidInput
from madang.models.providers.clip_pair import Pair
from madang.multimodal.clip.batches import Batch, Source
from madang.multimodal.clip.loss import Labels, contrastive, sigmoid

CHECKPOINT, HISTORY = "checkpoint.pt", "history.jsonl"
_LARGEST_SCALE = math.log(100)  # of the temperature, as in the paper (section 2.5)


@dataclass(frozen=True)
class Recipe:
    """How to train. `labels`: weight of the losses of labels, if there are any; towards the end it falls to a tenth."""

    steps: int = 2000
    batch: int = 256
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.05
    labels: float = 1.0
    seed: int = 0
    bfloat16: bool = True
    threads: int = 0  # 0: as torch likes

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch", 2), ("warmup", 0), ("threads", 0)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name}: at least {least}, not {getattr(self, name)}.")
        if not 0 < self.learning_rate < 1:
            raise InvalidInput(f"learning_rate: between 0 and 1, not {self.learning_rate}.")


@dataclass(frozen=True)
class Told:
    """How it goes, after a step."""

    step: int
    steps: int
    seconds: float  # of training, over all runs
    loss: float
    scores: dict[str, float]  # of the last look, which may have been some steps ago


Look: TypeAlias = Callable[[Pair, int], dict[str, float]]


def train(
    pair: Pair,
    source: Source,
    recipe: Recipe,
    folder: Path,
    *,
    look: Look | None = None,
    every: int = 200,
    keep_s: float = 120.0,
    about: dict[str, Any] | None = None,
    tell: Callable[[Told], None] | None = None,
) -> Pair:
    """Train `pair` in place, and go on from the folder's checkpoint where there is one.

    `look` is asked every `every` steps and in the end; what it finds goes to history.jsonl. A checkpoint is written
    then, and every `keep_s` seconds. `about`: what else decides what is learnt, the data say. Raises `Conflict` where
    the checkpoint is of another recipe or about something else, `Corrupt` where it is damaged.
    """
    run = _Run(pair, recipe, folder, about or {})
    run.resume()
    kept, scores = time.monotonic(), {}
    while run.step < recipe.steps:
        loss = run.one(source.batch(run.step, recipe.batch))
        last = run.step == recipe.steps
        looked = look is not None and (last or run.step % every == 0)
        if look is not None and looked:
            scores = look(pair, run.step)
            run.note(loss, scores)
        if looked or last or time.monotonic() - kept > keep_s:
            run.keep()
            kept = time.monotonic()
        if tell is not None:
            tell(Told(run.step, recipe.steps, run.seconds, loss, scores))
    pair.model.eval()
    return pair


class _Run:
    def __init__(self, pair: Pair, recipe: Recipe, folder: Path, about: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.about = about
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.pair, self.recipe, self.folder = pair, recipe, folder
        self.labels = Labels(pair.dim, pair.model.config.vision_config.hidden_size)
        trained = [each for each in pair.model.parameters() if each.requires_grad]
        matrices = [each for each in trained if each.ndim > 1]
        vectors = [each for each in trained if each.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [*matrices, *self.labels.parameters()], "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            fused=True,
        )
        self.step, self.seconds = 0, 0.0

    def one(self, batch: Batch) -> float:
        """A step; returns its loss."""
        begun = time.perf_counter()
        self.pair.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * _share(self.step, self.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            pictures, patches = self.pair.seen(self.pair.pixels(batch.images))
            texts = self.pair.read(self.pair.encoded(batch.texts))
        pictures, texts, patches = pictures.float(), texts.float(), patches.float()
        loss = self._contrast(pictures, texts, torch.from_numpy(batch.true))
        if batch.slots is not None and batch.said is not None and batch.cells is not None and self.recipe.labels:
            weight = self.recipe.labels * _label_share(self.step / self.recipe.steps)
            loss = loss + weight * self.labels(
                pictures, texts, patches, *map(torch.from_numpy, (batch.slots, batch.said, batch.cells))
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.pair.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.pair.model.logit_scale.clamp_(max=_LARGEST_SCALE)
        self.step += 1
        self.seconds += time.perf_counter() - begun
        return float(loss.detach())

    def _contrast(self, pictures: Tensor, texts: Tensor, true: Tensor) -> Tensor:
        model = self.pair.model
        units = normalize(pictures), normalize(texts)
        if self.pair.kind == "siglip":
            return sigmoid(*units, true, model.logit_scale.exp(), model.logit_bias)
        return contrastive(*units, true, model.logit_scale.exp())

    def note(self, loss: float, scores: dict[str, float]) -> None:
        """A line of history."""
        with (self.folder / HISTORY).open("a", encoding="utf-8") as file:
            file.write(
                json.dumps({"step": self.step, "seconds": round(self.seconds, 1), "loss": round(loss, 5), **scores})
                + "\n"
            )

    def keep(self) -> None:
        """Everything needed to go on, written beside and renamed."""
        path = self.folder / CHECKPOINT
        part = path.with_suffix(".part")
        torch.save(
            {
                "model": self.pair.model.state_dict(),
                "labels": self.labels.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "recipe": self.about | asdict(self.recipe),
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
            recipe = found["recipe"]
        except Exception as error:
            raise Corrupt(
                f"{path} is damaged ({type(error).__name__}: {error}).", remedy="Delete it to begin anew."
            ) from None
        mine = self.about | asdict(self.recipe)
        other = [name for name in mine if name != "threads" and recipe.get(name) != mine[name]]
        if other:
            said = ", ".join(f"{name} {recipe.get(name)} (now {mine[name]})" for name in other)
            raise Conflict(
                f"{path} was begun with other settings: {said}.",
                remedy="Give the same ones to go on, or another folder to begin anew.",
            )
        self.pair.model.load_state_dict(found["model"])
        self.labels.load_state_dict(found["labels"])
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


def _share(step: int, recipe: Recipe) -> float:
    """Of the learning rate: a linear rise, then half a cosine down to a hundredth."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2


def _label_share(done: float) -> float:
    """Of the weight of labels: all for the first 70 %, then falling to a tenth."""
    return 1.0 if done < 0.7 else 1.0 - 0.9 * (done - 0.7) / 0.3
