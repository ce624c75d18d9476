"""Pictures found by words, by a picture, or by both; and from which score on they are worth showing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from madang.base import trace
from madang.base.errors import Corrupt, InvalidInput
from madang.base.records import Filter, Match, Metadata
from madang.models.protocol import ImageEmbedder, Picture, Vectors
from madang.multimodal.images import DUPLICATE
from madang.store import validate
from madang.store.protocol import CollectionProtocol

_MOST_PICTURES, _MOST_QUESTIONS = 5_000, 400       # that a cut-off is calibrated on
_LEAST_QUESTIONS = 20
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ImageHit:
    """A picture that was found. `relevant`: whether its score reaches the collection's cut-off; None without one."""

    id: str
    score: float
    metadata: Metadata = field(default_factory=dict)
    caption: str = ""
    relevant: bool | None = None


@dataclass(frozen=True, slots=True)
class ImageQuestion:
    """Words, and the ids of all pictures of the collection that they are true of."""

    text: str
    relevant: frozenset[str]


@dataclass(frozen=True, slots=True)
class CutOff:
    """The score from which on pictures are shown, as calibrated: with what precision and recall on questions apart."""

    score: float
    precision: float
    recall: float
    questions: int
    pictures: int
    model: str

    def save(self, path: Path) -> None:
        """Written beside and renamed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(path)

    @classmethod
    def read(cls, path: Path, model: str) -> CutOff | None:
        """None where there is none, or where it is of another model. Raises `Corrupt` for a damaged file."""
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise Corrupt(f"{path} is damaged: {error}.", remedy="Calibrate again: madang image calibrate") from None
        return found if found.model == model else None


def search_images(collection: CollectionProtocol, model: ImageEmbedder, *, text: str | None = None,
                  picture: Picture | None = None, weight: float = 0.5, top_k: int = 10,
                  filter: Filter | None = None, duplicates: bool = False,  # noqa: A002
                  cut_off: CutOff | None = None) -> list[ImageHit]:
    """The best pictures for words, for a picture uint8 (height, width, 3), or for both, best first.

    Args:
        weight: of the words beside the picture, from 0 to 1. duplicates: also those that are nearly the same as
            another.
        cut_off: what does not reach it is marked, where words alone are asked for: it was calibrated on such.

    Raises `InvalidInput`.
    """
    if text is None and picture is None:
        raise InvalidInput("text, picture: give words, a picture, or both.")
    if text is not None and not text.strip():
        raise InvalidInput("text: empty.", remedy="Say what the picture should show.")
    if not 0 <= weight <= 1:
        raise InvalidInput(f"weight: from 0 (the picture alone) to 1 (the words alone), not {weight}.")
    with trace.span("search images", collection=collection.name):
        vector = _vector(model, text, picture, weight)
        found = _nearest(collection, vector, top_k, filter, duplicates)
    cut = cut_off.score if cut_off is not None and picture is None else None
    return [ImageHit(match.id, match.score, match.metadata or {}, match.document or "",
                     None if cut is None else match.score >= cut) for match in found]


def _nearest(collection: CollectionProtocol, vector: NDArray[np.float32], top_k: int, filter: Filter | None,  # noqa: A002
             duplicates: bool) -> list[Match]:
    """The best, of pictures that are nearly the same only the best of these: also where the first of them is gone."""
    wanted = validate.top_k(top_k)
    while True:
        asked = wanted if duplicates else min(wanted + 8, validate.MAX_TOP_K)
        matches = collection.query(vector=vector, top_k=asked, filter=filter, include_document=True).matches
        alone = {str((match.metadata or {}).get(DUPLICATE) or match.id): match for match in reversed(matches)}
        kept = [match for match in matches if duplicates or alone[
            str((match.metadata or {}).get(DUPLICATE) or match.id)] is match]
        if len(kept) >= top_k or len(matches) < asked or asked == validate.MAX_TOP_K:
            return kept[:top_k]
        wanted = 4 * asked


def _vector(model: ImageEmbedder, text: str | None, picture: Picture | None, weight: float) -> NDArray[np.float32]:
    parts = []
    if text is not None:
        parts.append((weight, model.embed([text], "query")[0]))
    if picture is not None:
        parts.append((1 - weight, model.embed_images([picture])[0]))
    if len(parts) == 1:
        return np.asarray(parts[0][1], np.float32)
    mixed = np.sum([share * vector for share, vector in parts], axis=0)
    length = float(np.linalg.norm(mixed))
    if length < 1e-6:
        raise InvalidInput("weight: words and picture are opposites and leave nothing.",
                           remedy="Choose another weight.")
    return np.asarray(mixed / length, np.float32)


def calibrate(collection: CollectionProtocol, model: ImageEmbedder,
              questions: Sequence[ImageQuestion] | None = None) -> CutOff:
    """The cut-off with the best F1 on half of the questions; precision and recall are those on the other half.

    Without questions the captions in the collection are asked, each being true of the pictures that have it. A sample
    of 5,000 pictures and 400 questions at most.

    Raises `InvalidInput` where there are too few.
    """
    ids, vectors, captions = sample(collection)
    asked = list(questions) if questions is not None else _by_caption(ids, captions)
    places = {id_: at for at, id_ in enumerate(ids)}
    usable = [each for each in asked if each.relevant & places.keys()]
    if len(usable) < _LEAST_QUESTIONS:
        raise InvalidInput(f"questions: {len(usable)} can be asked of collection {collection.name!r}; a cut-off needs "
                           f"at least {_LEAST_QUESTIONS} whose pictures are known.",
                           remedy="Give the pictures captions, or questions with the ids of the right pictures.")
    order = np.random.default_rng(0).permutation(len(usable))[:_MOST_QUESTIONS]
    usable = [usable[at] for at in order]
    scores = model.embed([each.text for each in usable], "query") @ vectors.T
    right = np.zeros(scores.shape, bool)
    for row, each in enumerate(usable):
        right[row, [places[id_] for id_ in each.relevant & places.keys()]] = True
    half = len(usable) // 2
    cut = best_cut(scores[:half].ravel(), right[:half].ravel())
    shown = scores[half:] >= cut
    hits = int((shown & right[half:]).sum())
    return CutOff(cut, hits / max(1, int(shown.sum())), hits / max(1, int(right[half:].sum())), len(usable), len(ids),
                  model.signature)


def best_cut(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """The score (of n, halfway to the next lower one) from which on those that are right have the best F1."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(right[order])
    shown = np.arange(1, len(order) + 1)
    f1 = 2 * hits / (shown + right.sum())
    ends = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))       # equal scores are shown together
    at = int(ends[np.argmax(f1[ends])])
    return float(ranked[at] if at + 1 == len(ranked) else (ranked[at] + ranked[at + 1]) / 2)


def sample(collection: CollectionProtocol) -> tuple[list[str], Vectors, list[str]]:
    """Ids, vectors and captions of some pictures, 5,000 at most; copies are left out."""
    every: list[str] = []
    cursor = None
    while True:
        page = collection.list_ids(limit=_PAGE, cursor=cursor, filter={DUPLICATE: ""})
        every += page.ids
        cursor = page.cursor
        if cursor is None:
            break
    if len(every) > _MOST_PICTURES:
        chosen = np.random.default_rng(0).choice(len(every), _MOST_PICTURES, replace=False)
        every = [every[at] for at in sorted(chosen)]
    ids, vectors, captions = [], [], []
    for part in _parts(every, _PAGE):
        for id_, record in collection.fetch(part).items():
            if record.values is not None:
                ids.append(id_)
                vectors.append(record.values)
                captions.append(record.document or "")
    return ids, np.asarray(vectors, np.float32).reshape(len(ids), collection.dim), captions


def _parts(values: Sequence[str], size: int) -> Iterable[list[str]]:
    return (list(values[start:start + size]) for start in range(0, len(values), size))


def _by_caption(ids: Sequence[str], captions: Sequence[str]) -> list[ImageQuestion]:
    same: dict[str, set[str]] = {}
    for id_, caption in zip(ids, captions, strict=True):
        if caption:
            same.setdefault(caption, set()).add(id_)
    return [ImageQuestion(text, frozenset(found)) for text, found in sorted(same.items())]


def read_questions(path: str | Path) -> list[ImageQuestion]:
    """From JSON Lines with "text" and "relevant", a list of ids. Raises `InvalidInput`, naming the line."""
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        row: Any = None
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{path}, line {number}: not JSON ({error}).") from None
        if not (isinstance(row, dict) and isinstance(row.get("text"), str) and isinstance(row.get("relevant"), list)):
            raise InvalidInput(f'{path}, line {number}: "text" and "relevant" (a list of ids) are expected.')
        found.append(ImageQuestion(row["text"], frozenset(map(str, row["relevant"]))))
    return found
