"""Collections of pictures in a workspace: which model made them, and where their thumbnails and cut-offs are."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from madang.base import messages
from madang.base.errors import Conflict, InvalidInput, MadangError, NotFound
from madang.base.records import Filter
from madang.base.settings import Settings
from madang.models.pictures import opened
from madang.models.protocol import ChatModel, Drawing, DrawOptions, ImageEmbedder, Picture
from madang.models.resolve import Models
from madang.multimodal.images import ImageReport, Listener, Thumbnails, ingest_images
from madang.multimodal.search import CutOff, ImageHit, ImageQuestion, calibrate, search_images
from madang.store import Collection, Database, validate

DEFAULT_COLLECTION = "images"
DESCRIBE = "Describe the picture."
# A picture in an answer, as `models.providers.drawing_chat` writes it.
_DRAWN = re.compile(r"!\[[^\]]*\]\(data:image/[a-z]+;base64,([A-Za-z0-9+/=]*)\)")
Asked: TypeAlias = str | Path | bytes | Picture | None


class Pictures:
    """The collections of pictures of a workspace; see `Workspace.ingest_images` and those after it."""

    def __init__(self, path: Path, database: Database, models: Models, settings: Settings) -> None:
        self._path, self._database, self._models, self._settings = path, database, models, settings

    def folder(self, name: str) -> Path:
        """Where what belongs to a collection is kept, beside its records."""
        return self._path / "images" / validate.collection_name(name)

    def refuse(self, name: str, what: str) -> None:
        """Raise `InvalidInput` where a collection is of pictures, which are made of pixels and not of text."""
        if self.folder(name).exists():
            raise InvalidInput(f"collection {name!r} is of pictures: {what}.",
                               remedy="Use another collection; pictures come in with madang image ingest.")

    def thumbnails(self, name: str) -> Thumbnails:
        """A collection's thumbnails."""
        return Thumbnails(self.folder(name) / "thumbnails")

    def thumbnail(self, name: str, id: str) -> bytes:  # noqa: A002
        """A small JPEG of a picture. Raises `NotFound` where there is no such collection, or picture in it."""
        if id not in self._database.open(name).fetch([id]):
            raise NotFound(f"collection {name!r} has no picture {id!r:.200}.")
        return self.thumbnails(name).read(id)

    def model_of(self, collection: Collection, wanted: str | None = None) -> ImageEmbedder:
        """The model that a collection of pictures was made with.

        Raises `InvalidInput` where it is none of pictures, `Conflict` where it is not `wanted`, or has changed.
        """
        signature = collection.embedder or ""
        name = signature.rpartition("@")[0]
        if wanted is not None and wanted != name:
            mine = name or "vectors of your own"
            raise Conflict(f"collection {collection.name!r} was made with {mine}, not {wanted}.",
                           remedy="Leave the model out, or ingest into another collection.")
        try:
            found = self._models.image_embedder(name, trusted=True)
        except (NotFound, InvalidInput):
            raise InvalidInput(f"collection {collection.name!r} is none of pictures.",
                               remedy="Make one with: madang image ingest DIR") from None
        if found.signature != signature:
            raise Conflict(f"collection {collection.name!r} was made with {signature}, but this is {found.signature}.",
                           remedy="Vectors of two models cannot be compared: ingest into another collection.")
        return found

    def ingest(self, paths: str | Path | Sequence[str | Path], name: str, model: str | None, every_s: float,
               uris: Mapping[Path, str] | None, captions: Mapping[Path, str] | None,
               progress: Listener | None) -> ImageReport:
        """Made on first use, and gone again where nothing could be read."""
        given = [paths] if isinstance(paths, str | Path) else list(paths)
        name = validate.collection_name(name)
        made = name in self._database.names()
        if made:
            target = self._database.open(name)
            seer = self.model_of(target, model)
        else:
            seer = self._models.image_embedder(model or self._settings.models.see)
            target = self._database.create(name, seer.dim, "cosine", "hnsw", seer.signature)
        try:
            return ingest_images(given, target, seer, self.thumbnails(name), every_s=every_s, exclude=[self._path],
                                 uris=uris, captions=captions, progress=progress)
        except MadangError:
            if not made and not target.stats().sources:
                self._database.drop(name)
                self.forget(name)
            raise

    def search(self, query: Asked, name: str, picture: Asked, weight: float, top_k: int,
               filter: Filter | None, duplicates: bool) -> list[ImageHit]:  # noqa: A002
        """With the collection's cut-off, where it was calibrated."""
        target = self._database.open(name)
        seer = self.model_of(target)
        text = query if isinstance(query, str) else None
        if text is None and query is not None and picture is not None:
            raise InvalidInput("query, picture: two pictures cannot be asked for at once.",
                               remedy="Give words as the query beside a picture.")
        shown = picture if query is text else query
        return search_images(target, seer, text=text, picture=None if shown is None else pixels(shown), weight=weight,
                             top_k=top_k, filter=filter, duplicates=duplicates, cut_off=self.cut_off(name, seer))

    def cut_off(self, name: str, seer: ImageEmbedder) -> CutOff | None:
        """The collection's cut-off, where it was calibrated for this model."""
        return CutOff.read(self.folder(name) / "cutoff.json", seer.signature)

    def calibrate(self, name: str, questions: Sequence[ImageQuestion] | None) -> CutOff:
        """Found and kept."""
        target = self._database.open(name)
        found = calibrate(target, self.model_of(target), questions)
        found.save(self.folder(name) / "cutoff.json")
        return found

    def describe(self, picture: Path | bytes | Picture, question: str, model: str | None) -> str:
        """See `describe`."""
        return describe(self._models.chat_model(model or self._settings.models.describe), picture, question)

    def draw(self, prompt: str, model: str | None, options: DrawOptions | None) -> list[Drawing]:
        """As many pictures as the options say."""
        return self._models.image_generator(model or self._settings.models.draw).draw(prompt, options)

    def forget(self, name: str) -> None:
        """What belongs to a collection that is gone."""
        shutil.rmtree(self.folder(name), ignore_errors=True)


def describe(model: ChatModel, picture: Path | bytes | Picture, question: str = DESCRIBE) -> str:
    """What a model that sees says to a question about a picture. Raises `InvalidInput` for an empty question."""
    return reply_of(model, question, picture)[0]


def reply_of(model: ChatModel, text: str, picture: Path | bytes | Picture | None = None, *,
             seed: int | None = None) -> tuple[str, bytes | None]:
    """What a model answers: words, and a picture where it drew one. Raises `InvalidInput` for an empty text."""
    if not text.strip():
        raise InvalidInput("the question is empty.", remedy=f'Ask something, for example "{DESCRIBE}"')
    parts: list[str | messages.Image] = [text]
    if picture is not None:
        buffer = io.BytesIO()
        Image.fromarray(pixels(picture)).save(buffer, "PNG")
        parts.insert(0, messages.Image("image/png", buffer.getvalue()))
    asked = messages.Message("user", text, parts=tuple(parts))
    told = "".join(delta.text for delta in model.chat([asked], messages.ChatOptions(seed=seed))).strip()
    drawn = _DRAWN.search(told)
    if drawn is None:
        return told, None
    return _DRAWN.sub("", told).strip(), base64.b64decode(drawn[1])


def pixels(given: str | Path | bytes | Picture) -> Picture:
    """A picture as uint8 (height, width, 3): the file at a path, the bytes of a file, or the pixels themselves."""
    if isinstance(given, Path):
        try:
            return np.asarray(opened(given.read_bytes(), name=str(given)))
        except OSError as error:
            raise NotFound(f"{given} cannot be read: {error.strerror or error}.", remedy="Check the path.") from None
    if isinstance(given, bytes):
        return np.asarray(opened(given))
    if isinstance(given, str):
        raise InvalidInput(f"picture: {given!r:.100} is text.", remedy="Give a pathlib.Path, bytes, or an array.")
    return given
