"""Training in the stages of the paper (Liu et al. 2023, section 4.2), after one that its language model had behind it.

1. "language": the language model alone, on what is said without pictures: requests to draw, conversations about a scene
   that begin with the description that answers them, and comparisons of what is there with what was said. A real one
   comes trained.
2. "align": the projector alone, on captions; tower and language model are frozen.
3. "instruct": projector and language model, on conversations; here also on requests to draw, for which the states of a
   picture's tokens are mapped to the vector of the text that asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from madang.models.providers.clip_pair import Pair
from madang.models.providers.output_projector import PICTURE
from madang.multimodal import training
from madang.multimodal.llava.batches import SILENT, STAGES, Batch, Source, Stage, batch
from madang.multimodal.llava.model import Seer
from madang.multimodal.training import Tell


@dataclass(frozen=True)
class Recipe(training.Recipe):
    """`steps` are of the last stage; `language` and `align` those of the others. `draw`: weight of drawing's loss."""

    steps: int = 4000
    batch: int = 48
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    language: int = 1500
    align: int = 200
    draw: float = 1.0

    def lasts(self, stage: Stage) -> int:
        """How many steps a stage has; one without is left out."""
        return {"language": self.language, "align": self.align, "instruct": self.steps}[stage]

    def of(self, stage: Stage) -> Recipe:
        """For one stage."""
        steps = self.lasts(stage)
        return replace(self, steps=steps, warmup=min(self.warmup, max(1, steps // 5)))


def train(
    seer: Seer,
    pair: Pair,
    source: Source,
    recipe: Recipe,
    folder: Path,
    *,
    look: Callable[[int], dict[str, float]] | None = None,
    every: int = 500,
    about: Mapping[str, Any] | None = None,
    tell: Callable[[Stage], Tell] | None = None,
) -> None:
    """Train `seer` in place, stage by stage; each goes on from its own checkpoint. Pictures are drawn by vectors of
    `pair`."""
    for stage in STAGES:
        if not recipe.lasts(stage):
            continue
        told = tell(stage) if tell is not None else None
        task = Talking(seer, pair, source, recipe, stage)
        training.train(
            task,
            recipe.of(stage),
            folder / stage,
            look=look if stage == "instruct" else None,
            every=every,
            about={**(about or {}), "stage": stage},
            tell=told,
        )


class Talking:
    """One stage."""

    def __init__(self, seer: Seer, pair: Pair, source: Source, recipe: Recipe, stage: Stage) -> None:
        self.seer, self.pair, self.source, self.recipe, self.stage = seer, pair, source, recipe, stage
        inner = seer.core.model
        inner.vision_tower.requires_grad_(False)
        if seer.core is seer.model:
            inner.language_model.requires_grad_(stage != "align")
        else:       # low-rank updates are trained in place of it
            for name, weights in inner.language_model.named_parameters():
                weights.requires_grad_("lora_" in name and stage != "align")
        inner.multi_modal_projector.requires_grad_(stage != "language")
        if seer.output is not None:
            seer.output.requires_grad_(stage != "align")

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        found = {"model": self.seer.model}
        return found if self.seer.output is None else {**found, "output": self.seer.output}

    def loss(self, step: int) -> Tensor:
        made = batch(self.seer, *self.source.conversations(step, self.recipe.batch, self.stage))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            states = self._states(made)
            learnt = made.labels[:, 1:] != SILENT
            scores = self.seer.core.lm_head(states[:, :-1][learnt])
        losses = cross_entropy(scores.float(), made.labels[:, 1:][learnt], reduction="none")
        weights = made.weights[:, 1:][learnt]
        loss = (weights * losses).sum() / weights.sum()
        if made.wanted and self.seer.output is not None:
            loss = loss + self.recipe.draw * self._drawn(made, states)
        return loss

    def after(self, step: int) -> None:
        pass

    def _states(self, made: Batch) -> Tensor:
        """The last hidden states (n, longest, hidden)."""
        pictures = self.seer.pixels(made.pictures.numpy()) if len(made.pictures) else {}
        found = self.seer.core.model(input_ids=made.ids, attention_mask=made.mask, use_cache=False, **pictures)
        return found.last_hidden_state

    def _drawn(self, made: Batch, states: Tensor) -> Tensor:
        """How far the vectors of the pictures that are said are from those of the texts that ask for them."""
        first = self.seer.processor.tokenizer.convert_tokens_to_ids(PICTURE[0])
        rows, at = (made.ids == first).nonzero(as_tuple=True)
        spans = torch.stack([states[rows, at + each] for each in range(len(PICTURE))], 1)
        with torch.no_grad():
            wanted = normalize(self.pair.read(self.pair.encoded(made.wanted))).float()
        assert self.seer.output is not None
        return (self.seer.output(spans.float()) - wanted * math.sqrt(self.pair.dim)).square().mean()
