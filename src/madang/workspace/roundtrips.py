"""Round trips of a workspace: which models, which prompts and pictures to compare with, and every run kept."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.settings import Settings
from madang.models.protocol import ImageEmbedder, Vectors
from madang.models.resolve import Models
from madang.multimodal import sheet
from madang.multimodal.pairs import read_beside
from madang.multimodal.roundtrip import WAYS, Gallery, Prompts, RoundTrip, Travel, Way, rows_of
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.dataset import told_scene
from madang.multimodal.scenes.words import prompt as prompt_of
from madang.multimodal.search import sample
from madang.store import Collection, Database
from madang.workspace.pictures import DEFAULT_COLLECTION, Pictures, describe, pixels

SCENES = 1000           # painted ones to compare with, where there is no collection of pictures


@dataclass(frozen=True)
class Kept:
    """A run in its folder, with run.json, the pictures, sheet.png and sheet.html."""

    id: str
    folder: Path
    trip: dict[str, Any]
    vote: str = ""


class RoundTrips:
    """See `Workspace.roundtrip_image`."""

    def __init__(self, path: Path, database: Database, models: Models, settings: Settings, pictures: Pictures) -> None:
        self._path, self._database, self._models, self._settings = path / "roundtrips", database, models, settings
        self._pictures = pictures

    def run(self, image: Path, *, prompt: str | None, collection: str | None, describer: str | None,
            painter: str | None, seed: int, ways: Sequence[Way], question: str,
            told: Callable[[str], None]) -> Kept:
        """Travel, and keep it."""
        unknown = [way for way in ways if way not in WAYS]
        if unknown or not ways:
            raise InvalidInput(f"ways: {', '.join(unknown) or 'none'}.", remedy=f"Known: {', '.join(WAYS)}.")
        if not image.is_file():
            raise NotFound(f"there is no picture {image}.", remedy="Check the path.")
        known = read_beside(image)
        words = known.text if prompt is None else prompt
        picture = pixels(image)
        chosen = self._settings.models
        sees = self._models.chat_model(self._named(describer, "chat") or chosen.describe)
        draws = self._models.image_generator(self._named(painter, "draw") or chosen.draw)
        name = collection or DEFAULT_COLLECTION
        if collection is not None or name in self._database.names():
            target = self._database.open(name)
            seer = self._pictures.model_of(target)
            told("reading the collection")
            prompts, gallery = _of_collection(target, seer, seer.embed_images([picture])[0])
        else:
            seer = self._models.image_embedder(chosen.see)
            told(f"painting {SCENES:,} scenes to compare with (once)")
            prompts, gallery = self._of_scenes(seer)
        travel = Travel(lambda each: describe(sees, each, question), sees.name, draws, seer, prompts, gallery)
        scene = told_scene(known.about)
        trip = travel.go(picture, image.name, prompt=words, scene=scene, seed=seed, ways=ways, told=told)
        return self._keep(trip)

    def list(self) -> list[Kept]:
        """Every run, the oldest first."""
        return [self.read(folder.name) for folder in sorted(self._path.glob("*")) if (folder / "run.json").is_file()]

    def read(self, run: str) -> Kept:
        """Raises `NotFound`, `Corrupt`."""
        folder = self._path / run
        if not re.fullmatch(r"[\w-]+", run) or not (folder / "run.json").is_file():
            raise NotFound(f"there is no round trip {run!r:.100}.", remedy="See them with: madang image roundtrips")
        try:
            found = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            return Kept(run, folder, found["trip"], str(found.get("vote", "")))
        except (OSError, ValueError, KeyError) as error:
            raise Corrupt(f"{folder / 'run.json'} is damaged: {error}.", remedy="Remove its folder.") from None

    def vote(self, run: str, best: str) -> Kept:
        """Keep which version a person finds nearest to the picture: a way, or "none"; its letter on the sheet, too."""
        kept = self.read(run)
        ways = [each["way"] for each in kept.trip["versions"]]
        letters = dict(zip("ABC", ways, strict=False))
        chosen = letters.get(best.upper(), best)
        if chosen not in (*ways, "none"):
            raise InvalidInput(f"best: {best!r:.40} is none of this round trip's.",
                               remedy=f"Known: {', '.join([*ways, 'none'])}, or {', '.join(letters)}.")
        _write(kept.folder, kept.trip, chosen)
        return self.read(run)

    def _named(self, name: str | None, role: Any) -> str:
        return self._models.alias(name, role).name if name else ""

    def _keep(self, trip: RoundTrip) -> Kept:
        """The folder gets its name when everything is in it."""
        run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        part = self._path / f".{run}"
        part.mkdir(parents=True)
        (part / "picture.png").write_bytes(trip.picture)
        for each in trip.versions:
            (part / f"{each.way}.png").write_bytes(each.picture)
        rows = rows_of(trip)
        (part / "sheet.png").write_bytes(sheet.png(rows, side=256))
        (part / "sheet.html").write_text(sheet.page(rows, side=256, title=f"Round trip of {trip.name}"),
                                         encoding="utf-8")
        (part / "vote.html").write_text(sheet.page(rows_of(trip, letters=True), side=256, title="Which is nearest?"),
                                        encoding="utf-8")
        _write(part, trip.to_dict(), "")
        part.rename(self._path / run)
        return self.read(run)

    def _of_scenes(self, seer: ImageEmbedder) -> tuple[Prompts, Gallery]:
        """Prompts and pictures of painted scenes, with their vectors by this model, kept in a file."""
        made = exam.scenes_of("train", SCENES)
        texts = [prompt_of(scene, seed) for seed, scene in made]
        path = self._path / f"scenes-{re.sub(r'[^A-Za-z0-9]+', '-', seer.signature)}.npz"
        if path.is_file():
            try:
                found = np.load(path)
                return Prompts(texts, found["texts"]), Gallery(found["pictures"])
            except (OSError, ValueError, KeyError):
                path.unlink()
        prompts = Prompts(texts, seer.embed(texts))
        gallery = Gallery(seer.embed_images(list(exam.painted(made, 64))))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, texts=prompts.vectors, pictures=gallery.vectors)
        part.replace(path)
        return prompts, gallery


def _of_collection(target: Collection, seer: ImageEmbedder, first: Vectors) -> tuple[Prompts | None, Gallery]:
    """Captions and vectors of its pictures, without the one that is looked at."""
    # The same pixels get almost the same vector: int8 graphs round by all that they see at a time.
    _, vectors, texts = sample(target)
    others = vectors[vectors @ first < 0.999]
    return (Prompts.of(texts, seer) if any(each.strip() for each in texts) else None), Gallery(others)


def _write(folder: Path, trip: dict[str, Any], vote: str) -> None:
    part = folder / "run.part"
    part.write_text(json.dumps({"trip": trip, "vote": vote}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / "run.json")
