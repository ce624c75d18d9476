"""The round trip: describe a picture, draw from the words, and see how much of the picture came back.

A picture is drawn again from (a) what a model says of it, (b) the prompt that it was made from, (c) the stored prompt
that is nearest to it; each is compared with the picture it started from. With GPT-4o, DALL·E 3 and DiffusionDB it is
the well-known experiment; with the bundled models it runs offline.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from madang.base.errors import InvalidInput
from madang.models.pictures import opened
from madang.models.protocol import DrawOptions, ImageEmbedder, ImageGenerator, Picture, Vectors
from madang.multimodal import sheet
from madang.multimodal.scenes.observe import Observer
from madang.multimodal.scenes.read import agreement, tally
from madang.multimodal.scenes.world import Scene

Way: TypeAlias = Literal["description", "original", "similar"]
WAYS: tuple[Way, ...] = ("description", "original", "similar")


@dataclass(frozen=True)
class Prompts:
    """Stored prompts with their vectors, (n, dim) of length 1."""

    texts: Sequence[str]
    vectors: Vectors

    @classmethod
    def of(cls, texts: Sequence[str], seer: ImageEmbedder) -> Prompts:
        """Different ones, in their order. Raises `InvalidInput` where there is none."""
        kept = [each for each in dict.fromkeys(texts) if each.strip()]
        if not kept:
            raise InvalidInput("prompts: there is none.", remedy="Give a collection of pictures with captions.")
        return cls(kept, seer.embed(kept))

    def nearest(self, vector: NDArray[np.float32], without: str = "") -> str:
        """The prompt that fits a picture best, other than `without`; "" where there is no other."""
        for at in np.argsort(-(self.vectors @ vector)):
            if self.texts[at] != without:
                return str(self.texts[at])
        return ""


@dataclass(frozen=True)
class Gallery:
    """Pictures among which the first one is looked for: their vectors, (n, dim) of length 1, without its own."""

    vectors: Vectors

    def rank(self, drawn: NDArray[np.float32], first: NDArray[np.float32]) -> int:
        """At which place the first picture is found by the drawn one, from 1."""
        return 1 + int((self.vectors @ drawn > first @ drawn).sum())


@dataclass(frozen=True)
class Version:
    """A picture that was drawn again. `similarity`: the cosine to the first one. `rank` of the first one among `among`
    pictures. `attributes`: what can be read off it as it was in the first one, a share by attribute; empty where nobody
    knows what was there. `revised`: the prompt that was really drawn from, where a service changed it.
    """

    way: Way
    prompt: str
    picture: bytes = field(repr=False)
    similarity: float
    rank: int
    among: int
    attributes: Mapping[str, float] = field(default_factory=dict)
    revised: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without the picture."""
        return {"way": self.way, "prompt": self.prompt, "similarity": round(self.similarity, 5), "rank": self.rank,
                "among": self.among, "attributes": dict(self.attributes), "revised": self.revised}


@dataclass(frozen=True)
class RoundTrip:
    """One picture there and back. Names of models, and the seed, say how to do it again."""

    picture: bytes = field(repr=False)          # PNG
    name: str
    prompt: str
    seed: int
    models: Mapping[str, str]                   # "describe", "draw" and "see"
    versions: Sequence[Version]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without the pictures."""
        return {"name": self.name, "prompt": self.prompt, "seed": self.seed, "models": dict(self.models),
                "versions": [each.to_dict() for each in self.versions]}


@dataclass(frozen=True)
class Travel:
    """Who describes, who draws, who compares, and with what. `describe` says what a picture shows; `prompts` and
    `gallery` may lack."""

    describe: Callable[[Picture], str]
    describer: str
    painter: ImageGenerator
    seer: ImageEmbedder
    prompts: Prompts | None = None
    gallery: Gallery | None = None

    def go(self, picture: Picture, name: str, *, prompt: str = "", scene: Scene | None = None, seed: int = 0,
           ways: Sequence[Way] = WAYS, told: Callable[[str], None] = lambda _: None) -> RoundTrip:
        """`prompt`: what the picture was made from, "" where nobody knows. A way without words is left out. `told`
        gets a line before each step. Raises what the models raise."""
        first = self.seer.embed_images([picture])[0]
        versions = []
        for way in ways:
            told(f"{way}: finding the words")
            words = self._words(way, picture, first, prompt)
            if words:
                told(f"{way}: drawing")
                versions.append(self._version(way, words, first, scene, seed))
        models = {"describe": self.describer, "draw": self.painter.name, "see": self.seer.name}
        return RoundTrip(_png(picture), name, prompt, seed, models, versions)

    def _words(self, way: Way, picture: Picture, first: NDArray[np.float32], prompt: str) -> str:
        if way == "original":
            return prompt
        if way == "similar":
            return "" if self.prompts is None else self.prompts.nearest(first, prompt)
        return self.describe(picture)

    def _version(self, way: Way, words: str, first: NDArray[np.float32], scene: Scene | None, seed: int) -> Version:
        drawn = self.painter.draw(words, DrawOptions(seed=seed))[0]
        pixels = np.asarray(opened(drawn.data, name=f"what {self.painter.name} drew"))
        vector = self.seer.embed_images([pixels])[0]
        gallery = self.gallery or Gallery(np.empty((0, len(first)), np.float32))
        found = {} if scene is None else tally([agreement(Observer().observe([pixels])[0], scene)])
        return Version(way, words, drawn.data, float(vector @ first), gallery.rank(vector, first),
                       1 + len(gallery.vectors), found, drawn.prompt)


def rows_of(trip: RoundTrip, letters: bool = False) -> list[sheet.Row]:
    """A contact sheet: the picture, and what was drawn, each with its words and its scores. With `letters` in place of
    the ways, for whoever shall vote without knowing them."""
    cells = [sheet.Cell(_image(trip.picture), f"the picture: {trip.prompt}" if trip.prompt else "the picture")]
    for at, each in enumerate(trip.versions):
        named = "ABC"[at] if letters else f"{each.way}: {each.prompt}"
        scores = f"similarity {each.similarity:.3f}, rank {each.rank} of {each.among}"
        right = f", attributes {np.mean(list(each.attributes.values())):.2f}" if each.attributes else ""
        cells.append(sheet.Cell(_image(each.picture), named if letters else f"{scores}{right}. {named}"))
    return [sheet.Row(trip.name, cells)]


def _image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _png(picture: Picture) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()
