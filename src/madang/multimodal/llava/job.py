"""Training a LLaVA from start to finish: data, model, the stages with a look now and then, and what is kept of it.

In the folder: the model in Hugging Face's format, and training/ with a folder for each stage (checkpoint,
history.jsonl) and sheet.png; curves.html is in that of the last stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from madang.base.errors import InvalidInput
from madang.models.providers.clip_pair import Pair
from madang.models.providers.clip_pair import load as load_pair
from madang.models.providers.seers import path_of
from madang.multimodal import curves, sheet
from madang.multimodal.clip.pool import Pool
from madang.multimodal.llava.batches import Pages, Scenes, Source, Stage
from madang.multimodal.llava.instructions import Instructions, read_instructions
from madang.multimodal.llava.model import Seer, load, small
from madang.multimodal.llava.tiles import tiled
from madang.multimodal.llava.train import Recipe, train
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.interview import interview
from madang.multimodal.scenes.pages import examined
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.training import Outcome, Tell

HELD_OUT = 0.1  # of a user's conversations


@dataclass(frozen=True)
class Wish:
    """What to train. `start`: a LLaVA (folder or name of the hub), "" for a small one from nothing on the tower of
    `clip`. `data`: "scenes", "pages" of four scenes each, or a file of conversations. `tiles`: see there.
    `pool`: where painted scenes are kept, for several trainings.
    """

    out: Path
    start: str = ""
    clip: str = "bundled/clip"
    data: str = "scenes"
    recipe: Recipe = field(default_factory=Recipe)
    groups: int = 20_000
    lora: int = 0
    tiles: bool = False
    every: int = 500
    pool: Path | None = None
    looks: int = 100  # held-out scenes for a look
    small: dict[str, Any] = field(default_factory=dict)  # other sizes of the small model, for trying things out


def run(
    wish: Wish, *, tell: Callable[[Stage], Tell] | None = None, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Train, or go on where it was stopped; `say` gets a line for each stage."""
    if wish.lora and not wish.start:
        raise InvalidInput(
            "lora: a model from nothing has nothing to update.", remedy="Name a model to start from with --from."
        )
    training = wish.out / "training"
    training.mkdir(parents=True, exist_ok=True)
    pair = load_pair(path_of(wish.clip))
    pair.model.requires_grad_(False)
    seer = load(path_of(wish.start)) if wish.start else small(pair, seed=wish.recipe.seed, **wish.small)
    if wish.tiles:
        seer = tiled(seer, wish.recipe.seed)
    source, look, broken = _source(wish, seer, pair, training, say)
    if wish.lora:
        seer = _adapted(seer, wish.lora, wish.recipe.seed)
    say(
        f"training: {sum(each.numel() for each in seer.model.parameters()):,} parameters, "
        f"{wish.recipe.steps:,} steps of {wish.recipe.batch}"
    )
    scores: dict[str, float] = {}

    def looked(step: int) -> dict[str, float]:
        scores.clear()
        scores.update(look(step))
        return dict(scores)

    def told(stage: Stage) -> Tell:
        curves.write(training / "instruct")
        say(f"stage: {stage}")
        return tell(stage) if tell is not None else lambda _: None

    train(seer, pair, source, wish.recipe, training, look=looked, every=wish.every, tell=told, about=about(wish))
    curves.write(training / "instruct")
    if wish.lora:
        seer.model = seer.model.merge_and_unload()
    say("saving")
    seer.save(wish.out)
    return Outcome(wish.out, scores, broken)


def about(wish: Wish) -> dict[str, Any]:
    """What decides what is learnt, beside the recipe."""
    found = {"from": wish.start, "clip": wish.clip, "data": wish.data, "groups": wish.groups, "lora": wish.lora}
    return found | ({"tiles": True} if wish.tiles else {})


def _source(
    wish: Wish, seer: Seer, pair: Pair, training: Path, say: Callable[[str], None]
) -> tuple[Source, Callable[[int], dict[str, float]], list[tuple[str, str]]]:
    if wish.data in ("scenes", "pages"):
        say(f"painting {8 * wish.groups:,} scenes (once)")
        pool = Pool(wish.pool or training, pair, wish.groups)
        if wish.data == "pages":
            pages = Pages(pool, seer.side, wish.recipe.seed)
            return pages, lambda _: examined(seer.answers, pair.side, max(1, wish.looks // 4)), []
        return Scenes(pool, wish.recipe.seed), lambda step: _scenes_look(wish, seer, training, step), []
    found = read_instructions(Path(wish.data))
    # By pictures: what is asked about one that was learnt from tells nothing.
    names = sorted({each.name for each in found})
    count = max(1, round(HELD_OUT * len(names)))
    away = {names[at] for at in np.random.default_rng(0).permutation(len(names))[:count]}
    learn, held = ([each for each in found if (each.name in away) is hidden] for hidden in (False, True))
    if len(learn) < 2 or len(names) - count < 2:
        raise InvalidInput(
            f"data: {wish.data} has {len(found)} conversations, too few to hold some back.",
            remedy="Give at least 30 or so.",
        )
    say(f"reading {len(found):,} pictures")
    source = Instructions(learn, training, seer.side, seed=wish.recipe.seed)
    others = Instructions(held, training, seer.side, least=0)
    broken = list(dict.fromkeys(source.broken + others.broken))     # once, however much is said of it
    return source, lambda step: _instructions_look(others, seer, training, step) if len(others) else {}, broken


def _scenes_look(wish: Wish, seer: Seer, training: Path, step: int) -> dict[str, float]:
    held = exam.scenes_of("held-out", 4)
    pictures = list(exam.painted(held, seer.side))
    rows = []
    for language in ("en", "ko"):
        told = seer.answers(pictures, [PHRASES[language].ask["caption"][0]] * len(pictures))
        rows.append(
            sheet.Row(
                "", [sheet.Cell(Image.fromarray(picture), text) for picture, text in zip(pictures, told, strict=True)]
            )
        )
    (training / "sheet.png").write_bytes(sheet.png(rows, title=f"after {step:,} steps", side=220))
    return interview(seer.answers, seer.side, wish.looks)


def _instructions_look(held: Instructions, seer: Seer, training: Path, step: int) -> dict[str, float]:
    """How often the answer to a first question is word for word the one that is given."""
    count = min(64, len(held))
    asked = [turns[0] for turns in held.turns[:count]]
    told = seer.answers(list(held.pictures[:count]), [question for question, _ in asked])
    cells = [sheet.Cell(Image.fromarray(held.pictures[at]), told[at]) for at in range(min(8, count))]
    (training / "sheet.png").write_bytes(
        sheet.png([sheet.Row("", cells[at : at + 4]) for at in (0, 4)], title=f"after {step:,} steps", side=220)
    )
    return {"same words": float(np.mean([text == answer for text, (_, answer) in zip(told, asked, strict=True)]))}


def _adapted(seer: Seer, rank: int, seed: int) -> Seer:
    """With low-rank updates of the language model's queries and values in place of training everything."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)

    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=r".*language_model.*\.(q_proj|v_proj)"
    )
    return Seer(get_peft_model(seer.model, config), seer.processor, seer.output)
