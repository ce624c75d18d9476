"""Pictures by words, by a picture, by both; and the cut-off against a slow oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.base.errors import Corrupt, InvalidInput
from madang.multimodal.images import DUPLICATE
from madang.multimodal.search import (
    CutOff,
    ImageQuestion,
    best_cut,
    calibrate,
    read_questions,
    search_images,
)
from madang.store import Collection, Database
from tests.multimodal.seeing import WORDS, SeesColours, noise

MODEL = SeesColours()
COUNT = 60


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    """Tinted noise: of every word's colour as many, each with a caption of its own."""
    database = Database(tmp_path / "ws")
    made = database.create("images", MODEL.dim, "cosine", None, MODEL.signature)
    words = list(WORDS)
    pictures = [np.asarray(noise(at, 32, WORDS[words[at % len(words)]])) for at in range(COUNT)]
    vectors = MODEL.embed_images(pictures)
    made.upsert([{"id": f"p{at:02d}", "values": vectors[at], "document": f"{words[at % len(words)]} number {at // 5 % 6}",
                  "metadata": {"number": at, DUPLICATE: "p00" if at == 5 else ""}} for at in range(COUNT)])
    yield made
    database.close()


def best(collection: Collection, vector: np.ndarray, k: int) -> list[str]:
    """Ids by brute force."""
    records = collection.fetch([f"p{at:02d}" for at in range(COUNT)])
    scores = {id_: float(record.values @ vector) for id_, record in records.items()
              if record.values is not None}
    return sorted(scores, key=lambda id_: -scores[id_])[:k]


def test_words_find_what_is_nearest(collection: Collection) -> None:
    for word in WORDS:
        found = search_images(collection, MODEL, text=f"something {word}", top_k=7)
        ranked = best(collection, MODEL.embed([word])[0], 9)
        copies = [id_ for id_ in ranked if id_ in ("p00", "p05")]
        assert [hit.id for hit in found] == [id_ for id_ in ranked if id_ not in copies[1:]][:7]
        assert all(hit.caption.startswith(word) for hit in found)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        assert {hit.relevant for hit in found} == {None}


@given(weight=st.floats(0, 1), seed=st.integers(0, 50), word=st.sampled_from(sorted(WORDS)))
def test_words_and_a_picture_are_mixed_by_weight(tmp_path_factory: pytest.TempPathFactory, weight: float, seed: int,
                                                 word: str) -> None:
    database = Database(tmp_path_factory.mktemp("ws"))
    made = database.create("images", MODEL.dim, "cosine", None, MODEL.signature)
    vectors = MODEL.embed_images([np.asarray(noise(at)) for at in range(12)])
    made.upsert([{"id": str(at), "values": vectors[at], "metadata": {DUPLICATE: ""}} for at in range(12)])
    picture = np.asarray(noise(seed))
    mixed = weight * MODEL.embed([word])[0] + (1 - weight) * MODEL.embed_images([picture])[0]
    found = search_images(made, MODEL, text=word, picture=picture, weight=weight, top_k=12)
    scores = vectors @ mixed / np.linalg.norm(mixed)
    assert np.allclose([hit.score for hit in found], np.sort(scores)[::-1], atol=2e-3)
    database.close()


def test_of_copies_the_best_is_shown_unless_all_are_asked_for(collection: Collection) -> None:
    for seed, shown, hidden in ((5, "p05", "p00"), (0, "p00", "p05")):
        picture = np.asarray(noise(seed, 32, WORDS["red"]))
        found = [hit.id for hit in search_images(collection, MODEL, picture=picture, top_k=COUNT)]
        assert found[0] == shown
        assert hidden not in found
        assert len(found) == COUNT - 1
        every = [hit.id for hit in search_images(collection, MODEL, picture=picture, top_k=COUNT, duplicates=True)]
        assert len(every) == COUNT
    only = search_images(collection, MODEL, text="red", filter={"number": {"$lt": 10}}, top_k=50)
    assert len(only) == 9


@pytest.mark.parametrize(("how", "named"), [
    ({}, "text, picture"), ({"text": "  "}, "text"), ({"text": "red", "weight": 1.5}, "weight"),
    ({"text": "red", "top_k": 0}, "top_k"), ({"picture": np.zeros((2, 2), np.uint8)}, "pictures")])
def test_what_cannot_be_asked_is_refused(collection: Collection, how: dict[str, object], named: str) -> None:
    from madang.models.pictures import checked_picture

    if named == "pictures":         # models check, each in the same way
        with pytest.raises(InvalidInput, match=r"pictures\[0\]"):
            checked_picture(how["picture"], 0)  # type: ignore[arg-type]
        return
    with pytest.raises(InvalidInput, match=named):
        search_images(collection, MODEL, **how)  # type: ignore[arg-type]


def f1_of(scores: np.ndarray, right: np.ndarray, cut: float) -> float:
    shown = scores >= cut
    hits = int((shown & right).sum())
    return 2 * hits / (int(shown.sum()) + int(right.sum()))


@given(st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=2, max_size=40).filter(
    lambda rows: any(right for _, right in rows)))
def test_the_cut_is_the_best_there_is(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 8 for score, _ in rows], np.float32)
    right = np.array([each for _, each in rows])
    cut = best_cut(scores, right)
    assert f1_of(scores, right, cut) == pytest.approx(max(f1_of(scores, right, each) for each in scores))


def test_a_cut_off_tells_its_precision_and_recall(collection: Collection, tmp_path: Path) -> None:
    questions = [ImageQuestion(f"{word} {number}", frozenset(f"p{at:02d}" for at in range(COUNT)
                                                             if list(WORDS)[at % 5] == word))
                 for word in WORDS for number in range(6)]
    found = calibrate(collection, MODEL, questions)
    assert (found.questions, found.pictures, found.model) == (30, COUNT - 1, MODEL.signature)
    # The colours are far apart: a cut between them exists, and holds on the questions that were kept apart.
    assert found.precision > 0.9
    assert found.recall > 0.9
    shown = search_images(collection, MODEL, text="blue", top_k=COUNT, cut_off=found)
    blue = {f"p{at:02d}" for at in range(COUNT) if at % 5 == 2}
    assert len({hit.id for hit in shown if hit.relevant} & blue) > 0.8 * len(blue)
    assert {hit.relevant for hit in shown} == {True, False}
    assert {hit.relevant for hit in search_images(collection, MODEL, picture=np.asarray(noise(1)), cut_off=found)} == {None}
    found.save(tmp_path / "cut.json")
    assert CutOff.read(tmp_path / "cut.json", MODEL.signature) == found
    assert CutOff.read(tmp_path / "cut.json", "another@1") is None
    assert CutOff.read(tmp_path / "none.json", MODEL.signature) is None
    (tmp_path / "cut.json").write_text('{"score": 1}')
    with pytest.raises(Corrupt, match=r"cut\.json"):
        CutOff.read(tmp_path / "cut.json", MODEL.signature)


def test_captions_are_asked_where_there_are_no_questions(collection: Collection) -> None:
    found = calibrate(collection, MODEL)
    assert found.questions == 30            # five colours with six numbers
    assert 0 < found.precision < 1          # a colour is true of more pictures than those of its number


def test_too_few_questions_are_refused(collection: Collection) -> None:
    with pytest.raises(InvalidInput, match="at least 20"):
        calibrate(collection, MODEL, [ImageQuestion("red", frozenset({"p00"}))] * 19)
    with pytest.raises(InvalidInput, match="0 can be asked"):
        calibrate(collection, MODEL, [ImageQuestion("red", frozenset({"unknown"}))] * 30)


def test_questions_come_from_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"text": "red", "relevant": ["a", "b"]}) + "\n\n")
    assert read_questions(path) == [ImageQuestion("red", frozenset({"a", "b"}))]
    path.write_text('{"text": "red"}\n')
    with pytest.raises(InvalidInput, match="line 1"):
        read_questions(path)
    path.write_text("\nnot json\n")
    with pytest.raises(InvalidInput, match="line 2"):
        read_questions(path)
