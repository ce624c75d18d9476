"""Training from start to finish: data, model, training with a look now and then, and what is kept of it.

In the folder: the model in Hugging Face's format with onnx/ beside it, and training/ with the checkpoint,
history.jsonl, curves.html and sheet.png.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from madang.base.errors import InvalidInput
from madang.models.providers.clip_pair import Pair, load
from madang.models.providers.seers import path_of
from madang.multimodal import curves, sheet
from madang.multimodal import pairs as captioned
from madang.multimodal.clip import model
from madang.multimodal.clip.batches import Scenes, Source
from madang.multimodal.clip.captions import Captions
from madang.multimodal.clip.export import export
from madang.multimodal.clip.train import Look, Recipe, train
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.words import prompt
from madang.multimodal.training import Outcome, Told
from madang.multimodal.zero_shot import ZeroShot

HELD_OUT = 0.1  # of a user's pictures
_MOST_CLASSES = 200


@dataclass(frozen=True)
class Wish:
    """What to train. `start`: a folder or a name of the hub, "" for a small model from nothing. `data`: "scenes", or
    where pictures with captions are. `lora`: the rank of low-rank updates (Hu et al. 2021), 0 to train everything."""

    out: Path
    start: str = ""
    data: str = "scenes"
    recipe: Recipe = field(default_factory=Recipe)
    groups: int = 20_000
    lora: int = 0
    text_column: str = ""
    every: int = 200
    small: dict[str, Any] = field(default_factory=dict)  # other sizes of the small model, for trying things out


def run(
    wish: Wish, *, tell: Callable[[Told], None] | None = None, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Train, or go on where it was stopped; `say` gets a line for each stage."""
    if wish.lora and not wish.start:
        raise InvalidInput(
            "lora: a model from nothing has nothing to update.", remedy="Name a model to start from with --from."
        )
    training = wish.out / "training"
    training.mkdir(parents=True, exist_ok=True)
    pair = load(path_of(wish.start)) if wish.start else model.small(wish.out, seed=wish.recipe.seed, **wish.small)
    source, look, broken = _source(wish, pair, training, say)
    if wish.lora:
        pair = _adapted(pair, wish.lora, wish.recipe.seed)
    say(
        f"training: {sum(each.numel() for each in pair.model.parameters() if each.requires_grad):,} parameters, "
        f"{wish.recipe.steps:,} steps of {wish.recipe.batch}"
    )
    scores: dict[str, float] = {}

    def looked(now: Pair, step: int) -> dict[str, float]:
        scores.clear()
        scores.update(look(now, step))
        curves.write(training)
        return dict(scores)

    about = {"from": wish.start, "data": wish.data, "groups": wish.groups, "lora": wish.lora,
             "text column": wish.text_column}
    train(pair, source, wish.recipe, training, look=looked, every=wish.every, about=about, tell=tell)
    curves.write(training)
    if wish.lora:
        pair = Pair(pair.model.merge_and_unload(), pair.processor, pair.kind)
    say("saving, and exporting to ONNX")
    pair.save(wish.out)
    export(pair, wish.out)
    return Outcome(wish.out, scores, broken)


def _source(
    wish: Wish, pair: Pair, training: Path, say: Callable[[str], None]
) -> tuple[Source, Look, list[tuple[str, str]]]:
    if wish.data == "scenes":
        say(f"painting {8 * wish.groups:,} scenes (once)")
        return (
            Scenes(training, wish.groups, pair.side, pair.patch, seed=wish.recipe.seed),
            _scenes_look(pair.side, training),
            [],
        )
    learn, held = captioned.split(captioned.read_pairs(wish.data, text_column=wish.text_column), HELD_OUT)
    if len(held) < 2:
        raise InvalidInput(
            f"data: {wish.data} has {len(learn) + len(held)} pictures, too few to hold some back.",
            remedy="Give at least 30 or so.",
        )
    say(f"reading {len(learn) + len(held):,} pictures")
    source, others = (Captions(each, training, pair.side, seed=wish.recipe.seed) for each in (learn, held))
    return source, _captions_look(others, training), source.broken + others.broken


def _scenes_look(side: int, training: Path) -> Look:
    def look(pair: Pair, step: int) -> dict[str, float]:
        _scene_sheet(pair, side, training / "sheet.png", step)
        return exam.examine(pair, side, 300)

    return look


def _scene_sheet(pair: Pair, side: int, path: Path, step: int) -> None:
    """Six prompts, and the five nearest of 300 scenes that training does not see; the right one is marked."""
    held = exam.scenes_of("held-out", 300)
    pictures = exam.painted(held, side)
    seen = pair.embed_images(pictures)
    rows = []
    for number in range(6):
        seed, made = held[number]
        text = prompt(made, seed, "ko" if number % 2 else "en", split="held-out")
        scores = (pair.embed([text]) @ seen.T)[0]
        best = np.argsort(-scores)[:5]
        rows.append(
            sheet.Row(
                text,
                [
                    sheet.Cell(Image.fromarray(pictures[at]), f"{scores[at]:.2f}{' right' if at == number else ''}")
                    for at in best
                ],
            )
        )
    path.write_bytes(sheet.png(rows, title=f"after {step:,} steps"))


def _captions_look(held: Captions, training: Path) -> Look:
    count = min(500, len(held))
    pictures, texts = held.pictures[:count], held.texts[:count]
    labels = sorted(set(held.texts))
    classes = labels if 2 <= len(labels) <= _MOST_CLASSES and 2 * len(labels) < len(held.texts) else []

    def look(pair: Pair, step: int) -> dict[str, float]:
        seen, said = pair.embed_images(pictures), pair.embed(texts)
        scores = said @ seen.T
        right = np.array([[one == other for other in texts] for one in texts])
        best = np.where(right, scores, -np.inf).max(1)
        ranks = ((scores > best[:, None]) & ~right).sum(1)
        found = {"r@1": float((ranks < 1).mean()), "r@5": float((ranks < 5).mean())}
        if classes:
            chosen = ZeroShot.of(pair, {label: [label] for label in classes}).best(seen)
            found["accuracy"] = float(np.mean([one == other for one, other in zip(chosen, texts, strict=True)]))
        rows = [
            sheet.Row(
                texts[at],
                [sheet.Cell(Image.fromarray(pictures[row]), texts[row]) for row in np.argsort(-scores[at])[:5]],
            )
            for at in range(min(6, count))
        ]
        (training / "sheet.png").write_bytes(sheet.png(rows, title=f"after {step:,} steps"))
        return found

    return look


def _adapted(pair: Pair, rank: int, seed: int) -> Pair:
    """With low-rank updates of the attention's queries and values in place of training everything."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
    return Pair(get_peft_model(pair.model, config), pair.processor, pair.kind)
