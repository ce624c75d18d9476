"""Names under which the services' models are known, and what a workspace answers them with.

A program that asks for "gpt-4o" or "text-embedding-3-small" runs unchanged: such a name stands for the model that the
settings give that role. A name in [aliases] of madang.toml stands for whatever it says there. Callers of a known
embedding expect vectors of its width: `Widened` adds zeros, which change neither a cosine nor an inner product nor a
distance.

Widths: https://platform.openai.com/docs/guides/embeddings and https://docs.pinecone.io/models/overview.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from madang.base.errors import InvalidInput, NotFound
from madang.base.settings import Settings, variable
from madang.models.protocol import Embedder, EmbedKind, Progress, Vectors

AliasRole: TypeAlias = Literal["chat", "embed", "rerank", "draw"]


@dataclass(frozen=True, slots=True)
class Known:
    """A name that services made known. `width` is that of its embeddings, `widths` all that it can be asked for."""

    role: AliasRole
    width: int | None = None
    widths: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stands for: `name` is "PROVIDER/MODEL"; `width` of its embeddings, None for the model's own; `role`
    None where the name does not tell."""

    name: str
    width: int | None = None
    role: AliasRole | None = None


KNOWN: Mapping[str, Known] = {
    **dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4-turbo", "gpt-4",
                     "gpt-3.5-turbo", "gpt-3.5-turbo-instruct", "gpt-5", "gpt-5-mini", "gpt-5-nano", "o1", "o3",
                     "o3-mini", "o4-mini"), Known("chat")),
    "text-embedding-3-small": Known("embed", 1536, range(1, 1537)),
    "text-embedding-3-large": Known("embed", 3072, range(1, 3073)),
    "text-embedding-ada-002": Known("embed", 1536, (1536,)),
    "multilingual-e5-large": Known("embed", 1024, (1024,)),
    "llama-text-embed-v2": Known("embed", 1024, (384, 512, 768, 1024, 2048)),
    **dict.fromkeys(("dall-e-2", "dall-e-3", "gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5"), Known("draw")),
    "bge-reranker-v2-m3": Known("rerank"),
    "cohere-rerank-3.5": Known("rerank"),
    "cohere-rerank-v4-fast": Known("rerank"),
    "cohere-rerank-v4-pro": Known("rerank"),
    "pinecone-rerank-v0": Known("rerank"),
}
# What these services call later and dated models: gpt-4o-2024-08-06, gpt-4o-audio-preview, o3-pro, chatgpt-4o-latest.
_CHATS = re.compile(r"(chat)?gpt-\d[\w.-]*|o\d(-[\w.-]+)?|ft:gpt-[\w.:-]+")


def known(name: str) -> Known | None:
    """What is known of a name, or None."""
    found = KNOWN.get(name)
    return Known("chat") if found is None and _CHATS.fullmatch(name) else found


def resolve(name: str, settings: Settings, role: AliasRole | None = None) -> Resolved:
    """What `name` stands for: an alias of the settings, a name that services made known, or itself if "PROVIDER/MODEL".

    Raises:
        NotFound: nobody knows it. InvalidInput: it is known for another `role` than the one asked for.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"the model's name must be text, not {name!r:.80}.")
    public = known(name)
    if public is not None and role is not None and public.role != role:
        raise InvalidInput(f"model {name!r} does not {role}; it does {public.role}.",
                           remedy=f"Known for it: {', '.join(sorted(n for n, k in KNOWN.items() if k.role == role))}.")
    own = _own(name, settings)
    width = None if public is None else public.width
    if own is not None:
        return Resolved(own, width, role if public is None else public.role)
    if public is not None:
        return Resolved(getattr(settings.models, public.role), width, public.role)
    if "/" in name:
        return Resolved(name, None, role)
    raise NotFound(f"no model is called {name!r:.80}.",
                   remedy=f"Known: {', '.join(names(settings, role))}, or PROVIDER/MODEL. "
                          "Or give it a meaning in [aliases] of madang.toml.")


def names(settings: Settings, role: AliasRole | None = None) -> list[str]:
    """The names that are known, sorted; those of the settings among them, whose role nobody tells."""
    return sorted({name for name, each in KNOWN.items() if role in (None, each.role)}
                  | {name for name in settings.aliases if role is None or (known(name) or Known(role)).role == role})


def _own(name: str, settings: Settings) -> str | None:
    """The alias of the settings; one of the environment is found whatever marks its name has (gpt-4.1: GPT_4_1)."""
    if name in settings.aliases:
        return settings.aliases[name]
    wanted = variable("aliases", name)
    return next((model for own, model in settings.aliases.items() if variable("aliases", own) == wanted), None)


def checked_width(name: str, dimensions: int | None) -> int | None:
    """The width to give when a caller asks for `dimensions` of the model called `name`; None: the model's own.

    Raises `InvalidInput` where that model never has this width.
    """
    public = known(name)
    if dimensions is None:
        return None if public is None else public.width
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
        raise InvalidInput(f"dimensions must be a whole number of at least 1, not {dimensions!r:.80}.")
    if public is not None and public.widths and dimensions not in public.widths:
        said = (f"1 to {public.widths[-1]:,}" if isinstance(public.widths, range)
                else ", ".join(str(width) for width in public.widths))
        raise InvalidInput(f"dimensions of {name} cannot be {dimensions!r}.", remedy=f"It has {said}.")
    return dimensions


class Widened:
    """An `Embedder` whose vectors have another width: with zeros added, or only the first numbers, made a unit vector.

    Zeros keep every order. Fewer numbers lose some of what the vector says, as they do with the models that are made
    for it (https://platform.openai.com/docs/guides/embeddings, "Reducing embedding dimensions").
    """

    def __init__(self, embedder: Embedder, width: int) -> None:
        self.embedder, self._width = embedder, width

    @property
    def name(self) -> str:
        """Of the model that really answers."""
        return self.embedder.name

    @property
    def signature(self) -> str:
        return self.embedder.signature

    @property
    def dim(self) -> int:
        return self._width

    @property
    def languages(self) -> frozenset[str]:
        return self.embedder.languages

    @property
    def dense_weight(self) -> float:
        return self.embedder.dense_weight

    def embed(self, texts: Sequence[str], kind: EmbedKind = "document", progress: Progress | None = None) -> Vectors:
        """As `Embedder.embed`, float32 (n, width)."""
        return widened(self.embedder.embed(texts, kind, progress), self._width)


def widened(vectors: Vectors, width: int) -> Vectors:
    """float32 (n, width): zeros added at the end, or the first `width` numbers of each made a unit vector."""
    there = vectors.shape[1]
    if width >= there:
        return np.pad(vectors, ((0, 0), (0, width - there))) if width > there else vectors
    kept = vectors[:, :width]
    length = np.linalg.norm(kept, axis=1, keepdims=True)
    nowhere = length[:, 0] == 0                    # cut to nothing: the direction whose entries are all equal
    kept = np.where(nowhere[:, None], np.float32(1), kept)
    length[nowhere] = np.sqrt(width)
    return np.asarray(kept / length, np.float32)
