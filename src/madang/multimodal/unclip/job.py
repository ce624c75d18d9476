"""Training an unCLIP from start to finish: the decoder's layout, the prior, the decoder; each with a look now and then.

In the folder: the model (see `models.providers.unclip`), and training/layout, training/prior and training/decoder with
checkpoint, history.jsonl, curves.html; the decoder's has sheet.png, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image

from madang.base.errors import InvalidInput
from madang.models.providers.clip_pair import Pair, load
from madang.models.providers.seers import path_of
from madang.models.providers.unclip import Decoder, Prior, UnClip
from madang.multimodal import curves, sheet, training
from madang.multimodal.clip.captions import Captions
from madang.multimodal.clip.pool import Pool, Vectors
from madang.multimodal.pairs import read_pairs, split
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.observe import Observer
from madang.multimodal.scenes.read import agreement, tally
from madang.multimodal.scenes.words import prompt
from madang.multimodal.scenes.world import Scene
from madang.multimodal.training import Outcome, Tell
from madang.multimodal.unclip import decoder, prior, sketch
from madang.multimodal.unclip.pairs import Said, scenes

Part: TypeAlias = Literal["layout", "prior", "decoder"]
PARTS: tuple[Part, ...] = ("layout", "prior", "decoder")
HELD_OUT = 0.1  # of a user's pictures
_LOOKED_AT = 64
_Look: TypeAlias = Callable[[int], dict[str, float]]


@dataclass(frozen=True)
class Wish:
    """What to train. `clip`: whose vectors it works with. `data`: "scenes", or where pictures with captions are."""

    out: Path
    clip: str = "bundled/clip"
    data: str = "scenes"
    prior: prior.Recipe = field(default_factory=prior.Recipe)
    decoder: decoder.Recipe = field(default_factory=decoder.Recipe)
    layout: sketch.Recipe = field(default_factory=sketch.Recipe)
    groups: int = 20_000
    text_column: str = ""
    every: int = 500
    pool: Path | None = None
    small: dict[str, Any] = field(default_factory=dict)  # other sizes, for trying things out


@dataclass
class _Data:
    """What to learn from, and what to look at: pictures uint8 (n, side, side, 3), their texts, perhaps their scenes."""

    pictures: decoder.Source
    pairs: prior.Source
    held: np.ndarray
    texts: list[str]
    scenes: list[Scene]
    broken: list[tuple[str, str]]


def run(
    wish: Wish, *, tell: Callable[[Part], Tell] | None = None, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Train, or go on where it was stopped; `say` gets a line for each part."""
    folder = wish.out / "training"
    folder.mkdir(parents=True, exist_ok=True)
    pair = load(path_of(wish.clip))
    pair.model.requires_grad_(False)
    data = _data(wish, pair, folder, say)
    seen = torch.from_numpy(pair.embed_images(list(data.held)))
    said = torch.from_numpy(pair.embed(data.texts))
    about = {"clip": wish.clip, "data": wish.data, "groups": wish.groups, "text column": wish.text_column}
    told = tell or (lambda _: lambda _: None)
    scores: dict[str, float] = {}

    def train(part: Part, task: training.Task, recipe: training.Recipe, look: _Look) -> None:
        def looked(step: int) -> dict[str, float]:
            found = look(step)
            curves.write(folder / part)
            scores.update(found)
            return found

        training.train(task, recipe, folder / part, look=looked, every=wish.every, about=about, tell=told(part))
        curves.write(folder / part)

    draws = decoder.small(pair.dim, pair.side, seed=wish.decoder.seed, **wish.small.get("decoder", {}))
    say(f"layout: {_size(draws.layout):,} parameters, {wish.layout.steps:,} steps of {wish.layout.batch}")
    sketches = sketch.Sketching(draws.layout, pair.side, data.pictures, wish.layout)
    train("layout", sketches, wish.layout, lambda _: sketched(sketches, data, seen))

    imagines = prior.small(pair.dim, seed=wish.prior.seed, **wish.small.get("prior", {}))
    say(f"prior: {_size(imagines.transformer):,} parameters, {wish.prior.steps:,} steps of {wish.prior.batch}")
    draws.layout.requires_grad_(False)
    learnt = prior.Imagining(imagines, data.pairs, wish.prior, draws.layout.map)
    train("prior", learnt, wish.prior, lambda _: imagined(imagines, sketches, data, said, seen))
    draws.layout.requires_grad_(True)

    say(f"decoder: {_size(draws.unet):,} parameters, {wish.decoder.steps:,} steps of {wish.decoder.batch}")
    task, path = decoder.Drawing(draws, data.pictures, wish.decoder), folder / "decoder" / "sheet.png"
    train(
        "decoder",
        task,
        wish.decoder,
        lambda step: drawn(task.averaged, imagines, pair, data, said, seen, path, step),
    )
    say("saving")
    _save(wish, pair, imagines, task.averaged)
    return Outcome(wish.out, scores, data.broken)


def imagined(
    made: Prior, sketches: sketch.Sketching, data: _Data, said: torch.Tensor, seen: torch.Tensor
) -> dict[str, float]:
    """The mean cosine of imagined vectors with those of the pictures that the texts are of, as "cosine", and what can
    be read of sketches by them."""
    made.transformer.eval()
    noise = torch.randn(said.shape, generator=torch.Generator().manual_seed(1))
    found = made.imagine(said, noise)
    return {"cosine": float((found * seen).sum(1).mean()), **_read(sketches.sketch(found).numpy(), data)}


def sketched(made: sketch.Sketching, data: _Data, seen: torch.Tensor) -> dict[str, float]:
    """How far sketches by the true vectors are from the pictures, from 0 to 1, as "error", and what can be read of
    them."""
    found = made.sketch(seen).numpy()
    return {"error": float(np.square(found / 255.0 - data.held / 255.0).mean()), **_read(found, data)}


def drawn(
    made: Decoder,
    imagines: Prior,
    pair: Pair,
    data: _Data,
    said: torch.Tensor,
    seen: torch.Tensor,
    path: Path,
    step: int,
) -> dict[str, float]:
    """How near pictures drawn from texts come to those that the texts are of, and a sheet of some of them; of scenes,
    also which attributes can be read off them."""
    made.unet.eval()
    noise = torch.randn(said.shape, generator=torch.Generator().manual_seed(1))
    pictures = made.draw(imagines.imagine(said, noise), made.noise(len(said), 0)).numpy()
    vectors = torch.from_numpy(pair.embed_images(list(pictures)))
    rows = [
        sheet.Row(
            "",
            [
                sheet.Cell(Image.fromarray(each[at]), text if each is data.held else "")
                for at, text in enumerate(data.texts[start : start + 6], start)
            ],
        )
        for start in (0, 6)
        for each in (data.held, pictures)
    ]
    path.write_bytes(sheet.png(rows, title=f"after {step:,} steps: given, and drawn from the words below it"))
    found = {"similarity": float((vectors * seen).sum(1).mean())}
    return found | _read(pictures, data)


def _read(pictures: np.ndarray, data: _Data) -> dict[str, float]:
    """Of scenes, how often each attribute is seen right in pictures of them."""
    if not data.scenes:
        return {}
    claims = Observer().observe(list(pictures))
    return tally(agreement(claim, scene) for claim, scene in zip(claims, data.scenes, strict=True))


def _data(wish: Wish, pair: Pair, folder: Path, say: Callable[[str], None]) -> _Data:
    if wish.data == "scenes":
        say(f"painting {8 * wish.groups:,} scenes, and their vectors (once), and reading what is said of them")
        pool = Pool(wish.pool or folder, pair, wish.groups)
        held = exam.scenes_of("held-out", _LOOKED_AT)
        return _Data(
            pool,
            scenes(pool, pair, wish.prior.seed),
            exam.painted(held, pair.side),
            [prompt(made, seed, split="held-out") for seed, made in held],
            [made for _, made in held],
            [],
        )
    learn, held_out = split(read_pairs(wish.data, text_column=wish.text_column), HELD_OUT)
    if len(held_out) < 2:
        raise InvalidInput(
            f"data: {wish.data} has {len(learn) + len(held_out)} pictures, too few to hold some back.",
            remedy="Give at least 30 or so.",
        )
    say(f"reading {len(learn) + len(held_out):,} pictures")
    source, others = (Captions(each, folder, pair.side) for each in (learn, held_out))
    vectors = Vectors(source.pictures, pair, folder / f"vectors-{source.path.stem}.npy")
    count = min(_LOOKED_AT, len(others))
    return _Data(
        vectors,
        Said(vectors, source.texts, pair, wish.prior.seed),
        np.asarray(others.pictures[:count]),
        others.texts[:count],
        [],
        source.broken + others.broken,
    )


def _size(module: Any) -> int:
    return sum(each.numel() for each in module.parameters())


def _save(wish: Wish, pair: Pair, imagines: Prior, draws: Decoder) -> None:
    """With the CLIP beside them, unless it is a bundled one, which everybody has."""
    name = wish.clip
    if not name.startswith("bundled/"):
        name = "clip"
        shutil.rmtree(wish.out / name, ignore_errors=True)
        pair.save(wish.out / name)
    UnClip(imagines, draws, name).save(wish.out)
