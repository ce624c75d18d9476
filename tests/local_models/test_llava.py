"""A model that sees and talks: its tokens, what it is taught with, its training, and what is asked of it afterwards."""

from __future__ import annotations

import base64
import copy
import json
import math
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy, normalize

import madang
from madang.base.errors import Conflict, Corrupt, InvalidInput, MadangError, NotFound, Unreadable
from madang.base.messages import ChatOptions, Image, Message
from madang.base.settings import Local
from madang.cli.main import entry
from madang.models.protocol import Drawing, DrawOptions
from madang.models.providers.clip_pair import Pair
from madang.models.providers.clip_pair import load as load_pair
from madang.models.providers.drawing_chat import DrawingChat
from madang.models.providers.output_projector import OUTPUT, OutputProjector
from madang.models.providers.seers import seer_of
from madang.models.providers.transformers import TransformersProvider
from madang.models.providers.transformers_chat import Loaded
from madang.models.providers.unclip_images import UnclipImages
from madang.multimodal import training
from madang.multimodal.clip.pool import Pool
from madang.multimodal.instruct import Grammar
from madang.multimodal.instruct import write as write_instructions
from madang.multimodal.llava import tokens
from madang.multimodal.llava.batches import (
    ALIKE,
    COMPARISONS,
    REQUESTS,
    SILENT,
    STAGES,
    STRESS,
    Conversation,
    Scenes,
    Stage,
    batch,
    pieces,
)
from madang.multimodal.llava.instructions import Instructions, read_instructions
from madang.multimodal.llava.job import Wish, run
from madang.multimodal.llava.model import Seer, load, small
from madang.multimodal.llava.train import Recipe, Talking, train
from madang.multimodal.pairs import read_pairs
from madang.multimodal.scenes import scene
from madang.multimodal.scenes.claims import Claim, whole
from madang.multimodal.scenes.dataset import write as write_scenes
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.read import read
from madang.multimodal.scenes.words import Language
from madang.multimodal.scenes.world import THING, Scene, Thing
from madang.multimodal.training import CHECKPOINT, HISTORY, Told
from madang.workspace.pictures import reply_of
from tests.multimodal.seeing import coded, noise
from tests.multimodal.test_talk import check_answer

TINY: dict[str, Any] = {"width": 32, "layers": 1, "vocabulary": 400}
WALLS = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in ((250, 10, 10), (10, 10, 250), (240, 240, 240))])
LESSONS = [("What is it?", "A red wall."), ("What is it?", "A blue wall, at night."), ("무엇인가요?", "하얀 벽입니다 🦊")]
DRAWN = "".join(tokens.PICTURE)
DRAW = Conversation([("Draw a star.", f"a star {DRAWN}")], picture=False, wanted=("a star",))
PAINT = Conversation([("Paint.", DRAWN)], picture=False, wanted=("a blue ring",))
TWICE = Conversation([("Draw a star.", f"a star {DRAWN}"), ("More!", f"two hearts {DRAWN}")], picture=False, wanted=("a star", "two hearts"))
TALKS = [Conversation([each]) for each in LESSONS] + [DRAW, PAINT, TWICE]
TWISTED = [
    "",
    "밤의 바다, ㄱㅏ 각",
    "emoji 🦊👩\u200d👩\u200d👧 flag 🇰🇷",
    "control \x00\x01\x1b\x7f\x85\u2028 end",
    "  two  spaces \n\n\t and lines \r\n",
    "<script>alert('<b>')</script>",
    "العربية 漢字 \U0010ffff",
]


class Few:
    """The same conversations, again and again."""

    def __init__(self, talks: list[Conversation] | None = None) -> None:
        self.talks = talks or TALKS

    def conversations(self, step: int, size: int, stage: Stage) -> tuple[list[Conversation], torch.Tensor]:
        shown = [at for at, each in enumerate(self.talks) if each.picture]
        return self.talks, torch.from_numpy(WALLS[[at % 3 for at in shown]])


@pytest.fixture(scope="module")
def pair(clip_folder: Path) -> Pair:
    found = load_pair(str(clip_folder))
    found.model.requires_grad_(False)
    return found


@pytest.fixture(scope="module")
def untaught(pair: Pair) -> Seer:
    """From nothing, with the tokenizer that it is really given."""
    return small(pair, **TINY)


@pytest.fixture
def seer(untaught: Seer) -> Seer:
    return Seer(copy.deepcopy(untaught.model), untaught.processor, copy.deepcopy(untaught.output))


@pytest.fixture(scope="module")
def taught(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Seer:
    """It learnt `TALKS` by heart."""
    with pytest.MonkeyPatch.context() as patched:
        _short(patched)
        made = small(pair, width=64, layers=2, vocabulary=400)
    recipe = Recipe(steps=80, batch=4, learning_rate=0.01, warmup=5, weight_decay=0.0, bfloat16=False)
    training.train(Talking(made, pair, Few(), recipe, "instruct"), recipe, tmp_path_factory.mktemp("taught"))
    return made


@pytest.fixture(scope="module")
def folder(taught: Seer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("seers") / "walls"
    taught.save(made)
    return made


@pytest.fixture(scope="module")
def scenes(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(Pool(tmp_path_factory.mktemp("pool"), pair, 4, processes=1))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    _short(monkeypatch)


def _short(patched: pytest.MonkeyPatch) -> None:
    """A tokenizer from few texts: to make the real one takes seconds."""
    texts = list(tokens.corpus(40))
    patched.setattr(tokens, "corpus", lambda: texts)


def weights(seer: Seer) -> dict[str, torch.Tensor]:
    found = {name: value.clone() for name, value in seer.model.state_dict().items()}
    if seer.output is not None:
        found |= {f"output.{name}": value.clone() for name, value in seer.output.state_dict().items()}
    return found


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


# --- the tokenizer ---

def test_the_same_texts_give_the_same_tokenizer_in_any_process() -> None:
    script = ("from madang.multimodal.llava import tokens; import hashlib; "
              "print(hashlib.sha256(tokens.trained(tokens.corpus(20), 500).to_str().encode()).hexdigest())")
    told = {subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, text=True,
                           capture_output=True, check=True).stdout for seed in ("1", "2")}
    assert len(told) == 1


@pytest.mark.parametrize("text", TWISTED)
def test_any_text_survives_and_nothing_is_added_at_its_ends(untaught: Seer, text: str) -> None:
    tokenizer = untaught.processor.tokenizer
    ids = tokenizer(text)["input_ids"]
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert not set(ids) & set(tokenizer.convert_tokens_to_ids(list(tokens.SPECIAL)))
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40))
def test_texts_made_by_chance_survive(untaught: Seer, text: str) -> None:
    tokenizer = untaught.processor.tokenizer
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == unicodedata.normalize("NFC", text)


def test_marks_are_one_token_each_and_a_vocabulary_is_as_large_as_it_is_asked_for(untaught: Seer) -> None:
    tokenizer = untaught.processor.tokenizer
    for at, mark in enumerate(tokens.SPECIAL):
        assert tokenizer(f"a{mark}b")["input_ids"] == [*tokenizer("a")["input_ids"], at, *tokenizer("b")["input_ids"]]
    assert len(tokenizer) == TINY["vocabulary"]
    assert len(tokens.fast(tokens.trained(["a"], 0))) == 256 + len(tokens.SPECIAL)       # every byte, at least


# --- what a step sees ---

LONG = Conversation([("Describe the picture.", "A star."), ("색은?", "빨간색\n입니다."), ("  And\nwhere? ", "At the top.")])
HIDDEN = Conversation([("What?", "I see no picture."), ("Sure?", "Yes.")], picture=False)


@pytest.mark.parametrize("each", [LONG, HIDDEN, DRAW, TWICE], ids=["three turns", "no picture", "drawing", "two drawings"])
def test_pieces_are_the_whole_template_and_the_answers_are_what_is_learnt(untaught: Seer, each: Conversation) -> None:
    messages = []
    for at, (question, answer) in enumerate(each.turns):
        shown = [{"type": "image"}] if each.picture and at == 0 else []
        messages += [{"role": "user", "content": [*shown, {"type": "text", "text": question}]},
                     {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    found = pieces(untaught.processor, each)
    assert "".join(text for text, _ in found) == untaught.processor.apply_chat_template(messages)
    assert [text for text, learnt in found if learnt] == [answer + tokens.END for _, answer in each.turns]
    assert sum(text.count(tokens.IMAGE) for text, _ in found) == each.picture


def test_labels_are_silent_everywhere_but_on_the_answers(untaught: Seer) -> None:
    talks = [LONG, TWICE, HIDDEN, PAINT, Conversation([LESSONS[0]])]
    made = batch(untaught, talks, torch.from_numpy(WALLS[:2]))
    tokenizer = untaught.processor.tokenizer
    assert made.ids.shape == made.mask.shape == made.labels.shape
    assert made.wanted == ["a star", "two hearts", "a blue ring"]
    for row, each in enumerate(talks):
        learnt = made.labels[row] != SILENT
        assert (made.labels[row][learnt] == made.ids[row][learnt]).all()
        assert not (learnt & (made.mask[row] == 0)).any()
        assert tokenizer.decode(made.ids[row][learnt]) == "".join(answer + tokens.END for _, answer in each.turns)
        written = tokenizer.decode(made.ids[row][made.mask[row] == 1]).replace(tokens.IMAGE * untaught.patches, tokens.IMAGE)
        assert written == "".join(text for text, _ in pieces(untaught.processor, each))
        assert (made.ids[row][made.mask[row] == 0] == tokenizer.pad_token_id).all()
        assert made.mask[row].diff().max() <= 0                # padded on the right


def test_a_picture_that_has_no_room_is_not_wanted(untaught: Seer) -> None:
    """Wherever a conversation is cut, each picture that is left is whole and has its words."""
    processor = untaught.processor
    tokenizer = processor.tokenizer
    whole = tokenizer.encode("".join(text for text, _ in pieces(processor, TWICE)), add_special_tokens=False)
    marks = tokenizer.convert_tokens_to_ids(list(tokens.PICTURE))
    seen: dict[int, int] = {}
    for room in range(8, len(whole) + 2):
        config = copy.deepcopy(untaught.model.config)
        config.text_config.max_position_embeddings = room
        made = batch(Seer(SimpleNamespace(config=config), processor, untaught.output), [TWICE, DRAW], torch.zeros(0, 32, 32, 3, dtype=torch.uint8))
        rows = [ids[mask == 1].tolist() for ids, mask in zip(made.ids, made.mask, strict=True)]
        for row, ids in enumerate(rows):
            text = tokenizer.encode("".join(text for text, _ in pieces(processor, (TWICE, DRAW)[row])), add_special_tokens=False)
            assert ids == text[: len(ids)]
            assert min(room, len(text)) - len(tokens.PICTURE) < len(ids) <= room
            assert sum(ids.count(mark) for mark in marks) == len(marks) * ids.count(marks[0])
        assert made.wanted == [*("a star", "two hearts")[: rows[0].count(marks[0])], *["a star"] * rows[1].count(marks[0])]
        seen[len(made.wanted)] = seen.get(len(made.wanted), 0) + 1
    assert set(seen) == {0, 2, 3}


def test_a_yes_or_no_after_a_colon_counts_more_and_changes_no_token(untaught: Seer) -> None:
    talks = [Conversation([("So?", "It is day; by day: yes. It is in the snow; over the sea: no. So no."), ("No: yes?", "No: there are red, white.")]),
             Conversation([("맞나요?", "낮입니다. 낮: 네. 숲입니다. 사막: 아니요. 따라서 아니요.")], picture=False)]
    made = batch(untaught, talks, torch.from_numpy(WALLS[:1]))
    tokenizer = untaught.processor.tokenizer
    assert ((made.weights > 0) == (made.labels != SILENT)).all()
    for row, (each, stressed) in enumerate(zip(talks, (" yes no", " 네 아니요"), strict=True)):
        assert set(made.weights[row].tolist()) == {0.0, 1.0, STRESS}
        assert tokenizer.decode(made.ids[row][made.weights[row] == STRESS]) == stressed
        whole = "".join(text for text, _ in pieces(untaught.processor, each)).replace(tokens.IMAGE, tokens.IMAGE * untaught.patches)
        assert tokenizer.encode(whole, add_special_tokens=False) == made.ids[row][made.mask[row] == 1].tolist()


@pytest.mark.parametrize(("strategy", "patches"), [("default", 16), ("full", 17)])
def test_a_picture_is_as_many_tokens_as_it_has_patches(seer: Seer, strategy: str, patches: int) -> None:
    """Which are as many as the model makes of it: else it would not run."""
    seer.model.config.vision_feature_select_strategy = strategy
    made = batch(seer, [LONG, HIDDEN, LONG], torch.from_numpy(WALLS[:2]))
    image = seer.processor.tokenizer.convert_tokens_to_ids(tokens.IMAGE)
    assert (made.ids == image).sum(1).tolist() == [patches, 0, patches]
    assert seer.patches == patches
    seer.model(input_ids=made.ids, attention_mask=made.mask, **seer.pixels(made.pictures.numpy()))


def test_padding_changes_the_loss_of_no_row(taught: Seer) -> None:
    """Each row alone, and beside longer ones; with the mean over tokens written out here."""
    talks = [Conversation([LESSONS[0]]), LONG, HIDDEN, Conversation([LESSONS[2]])]

    def losses(rows: list[Conversation], pictures: torch.Tensor) -> list[float]:
        made = batch(taught, rows, pictures)
        shown = taught.pixels(made.pictures.numpy()) if len(pictures) else {}
        with torch.no_grad():
            scores = taught.model(input_ids=made.ids, attention_mask=made.mask, **shown).logits
        return [float(cross_entropy(scores[row, :-1], made.labels[row, 1:], ignore_index=SILENT)) for row in range(len(rows))]

    together = losses(talks, torch.from_numpy(WALLS))
    at = 0
    for each, loss in zip(talks, together, strict=True):
        assert losses([each], torch.from_numpy(WALLS[at : at + each.picture])) == pytest.approx([loss], rel=1e-4)
        at += each.picture


def test_the_loss_of_a_step_is_that_of_all_answers_and_of_what_shall_be_drawn(taught: Seer, pair: Pair) -> None:
    def loss(draw: float, talks: list[Conversation]) -> float:
        recipe = Recipe(batch=4, bfloat16=False, draw=draw)
        with torch.no_grad():
            return float(Talking(taught, pair, Few(talks), recipe, "instruct").loss(0))

    made = batch(taught, TALKS, torch.from_numpy(WALLS))
    with torch.no_grad():
        found = taught.model(input_ids=made.ids, attention_mask=made.mask, output_hidden_states=True,
                             **taught.pixels(made.pictures.numpy()))
    told = cross_entropy(found.logits[:, :-1].flatten(0, 1), made.labels[:, 1:].flatten(), ignore_index=SILENT)
    assert loss(0.0, TALKS) == pytest.approx(float(told), rel=1e-3)
    far = [np.square(vector - pair.embed([text])[0] * math.sqrt(pair.dim))
           for vector, text in zip(meant(taught, TALKS), [text for each in TALKS for text in each.wanted], strict=True)]
    assert len(far) == 4
    assert loss(2.0, TALKS) - loss(0.0, TALKS) == pytest.approx(2 * float(np.mean(far)), rel=1e-3, abs=1e-5)
    assert loss(5.0, TALKS[:3]) == loss(0.0, TALKS[:3])                   # nothing to draw
    crossed = [PAINT, replace(TWICE, wanted=TWICE.wanted[::-1])]          # the same texts, of one another's pictures
    assert loss(1.0, crossed) - loss(0.0, crossed) > 10 * (loss(1.0, [PAINT, TWICE]) - loss(0.0, [PAINT, TWICE]))


def meant(seer: Seer, talks: list[Conversation]) -> list[np.ndarray]:
    """What the pictures mean that are said in conversations without one, each conversation in one piece, by itself."""
    marks = seer.processor.tokenizer.convert_tokens_to_ids(list(tokens.PICTURE))
    assert seer.output is not None
    found = []
    for each in talks:
        if each.picture:
            continue
        ids = batch(seer, [each], torch.from_numpy(WALLS[:0])).ids
        with torch.no_grad():
            states = seer.model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            starts = [at for at in range(ids.shape[1]) if ids[0, at : at + len(marks)].tolist() == marks]
            assert len(starts) == len(each.wanted)
            found += [seer.output(states[:, at : at + len(marks)])[0].numpy() for at in starts]
    return found


def test_a_drawing_is_meant_by_the_vector_of_the_text_that_asks_for_it(taught: Seer, pair: Pair) -> None:
    texts = ["a star", "a blue ring", "a star", "two hearts"]
    vectors = normalize(torch.from_numpy(np.stack(meant(taught, [DRAW, PAINT, TWICE])))).numpy()
    alike = vectors @ pair.embed(texts).T
    assert alike.diagonal().min() > 0.95
    assert [texts[at] for at in alike.argmax(1)] == texts


def test_a_template_that_changes_what_came_before_is_refused(untaught: Seer) -> None:
    processor = copy.copy(untaught.processor)
    processor.chat_template = "{{ messages | length }} {% for each in messages %}{{ each.role }} {% endfor %}"
    with pytest.raises(InvalidInput, match="changes what came before"):
        pieces(processor, LONG)


@pytest.mark.parametrize("stage", STAGES)
def test_scenes_are_the_same_for_the_same_step(scenes: Scenes, stage: Stage) -> None:
    first = scenes.conversations(5, 8, stage)
    scenes.conversations(9, 8, stage)                      # of another group, so that nothing is kept of the first
    again = scenes.conversations(5, 8, stage)
    assert first[0] == again[0]
    assert torch.equal(first[1], again[1])
    assert first[0] != scenes.conversations(6, 8, stage)[0]
    assert len(first[1]) == sum(each.picture for each in first[0])


def test_captions_say_what_their_pictures_show(scenes: Scenes) -> None:
    """Read back by the inverse of the grammar, beside what the pool knows of the picture."""
    found = 0
    for step in range(4):
        talks, pictures = scenes.conversations(step, 8, "align")
        for each, picture in zip(talks, pictures.numpy(), strict=True):
            ((_, answer),) = each.turns
            row = int((scenes.pool.pictures == picture).all((1, 2, 3)).argmax())
            assert read(answer, language_of(answer)) == whole(scenes.pool.made[row])
            found += 1
    assert found == 32


def language_of(text: str) -> Language:
    return "ko" if re.search("[가-힣]", text) else "en"


def scene_of(claim: Claim) -> Scene:
    """The scene that is described in full."""
    assert None not in (claim.background, claim.time, *(getattr(part, name) for part in claim.things for name in THING))
    return Scene.of(claim.background, claim.time, [Thing(each.shape, each.colour, each.size, each.position) for each in claim.things])


def is_practice(talk: Conversation) -> bool:
    """Of comparing."""
    return any(talk.turns[0][0] in phrases.ask["compare"] for phrases in PHRASES.values())


def test_each_stage_gets_its_kind_of_conversations(scenes: Scenes) -> None:
    talks = {stage: [each for step in range(24) for each in scenes.conversations(step, 16, stage)[0]] for stage in STAGES}
    assert not any(each.picture for each in talks["language"])
    assert all(each.picture and len(each.turns) == 1 for each in talks["align"])
    assert not any(each.wanted for each in talks["align"])
    requests = [each for stage in STAGES for each in talks[stage] if each.wanted and not each.picture]
    assert all(len(each.turns) == len(each.wanted) == REQUESTS for each in requests)
    assert all(said in question for each in requests for (question, _), said in zip(each.turns, each.wanted, strict=True))
    for each in (each for stage in STAGES for each in talks[stage]):
        drawn = [answer for _, answer in each.turns if tokens.PICTURE[0] in answer]
        assert drawn == [f"{said} {DRAWN}" for said in each.wanted]           # said in words, and then as a picture
        texts = [text for turn in each.turns for text in turn if text not in drawn]
        assert not any(mark in text for text in (*texts, *each.wanted) for mark in tokens.SPECIAL)
    assert 0.3 < np.mean([bool(each.wanted) for each in talks["language"]]) < 0.5
    practice = [each for each in talks["language"] if is_practice(each)]
    assert 0.2 < len(practice) / len(talks["language"]) < 0.4
    assert all(len(each.turns) == 1 and each.turns[0][1].count(":") == COMPARISONS for each in practice)
    assert not any(is_practice(each) for stage in ("align", "instruct") for each in talks[stage])
    seen = talks["instruct"]
    assert 0.15 < np.mean([bool(each.wanted) and not each.picture for each in seen]) < 0.25
    changed = [each for each in seen if each.wanted and each.picture]
    assert 0.12 < len(changed) / len(seen) < 0.25
    assert {len(each.turns) for each in changed} == {1, 2}
    assert all(len(each.wanted) == 1 and DRAWN in each.turns[-1][1] for each in changed)
    blind = [each for each in seen if not each.picture and not each.wanted]   # asked about a picture that is not there
    assert 0 < len(blind) / len(seen) < 0.06
    assert {answer for each in blind for _, answer in each.turns} <= {phrases.no_picture for phrases in PHRASES.values()}
    assert {len(each.turns) for each in seen} == {1, 2}


def test_what_is_said_without_pictures_can_be_known_from_the_first_answer(scenes: Scenes) -> None:
    names: list[str] = []
    for step in range(32):
        for each in scenes.conversations(step, 16, "language")[0]:
            if not each.wanted and not is_practice(each):
                language = language_of(each.turns[0][0])
                made = scene_of(read(each.turns[0][1], language))
                told = [check_answer(*turn, made, language) for turn in each.turns]
                assert told[0] == "caption"
                assert len(told) in (2, 3)
                names += told[1:]
    assert 0.65 < np.mean([name in ("true", "is") for name in names]) < 0.9       # most ask whether something is so
    assert len(set(names)) > 10


def test_what_is_said_of_pictures_is_true_of_them(scenes: Scenes) -> None:
    names: list[str] = []
    for step in range(16):
        talks, pictures = scenes.conversations(step, 16, "instruct")
        for each, picture in zip([each for each in talks if each.picture], pictures.numpy(), strict=True):
            made = scenes.pool.made[int((scenes.pool.pictures == picture).all((1, 2, 3)).argmax())]
            names += [check_answer(*turn, made, language_of(turn[0])) for turn in each.turns if DRAWN not in turn[1]]
    assert 0.65 < np.mean([name in ("true", "is") for name in names]) < 0.9       # most ask whether something is so
    assert len(set(names)) > 10


def test_conversations_of_a_step_are_about_equally_long(scenes: Scenes, pair: Pair) -> None:
    seer = small(pair, **{**TINY, "vocabulary": 1200})      # as large as it really is

    def padded(talks: list[Conversation]) -> float:
        return float(1 - batch(seer, talks, torch.zeros(0, 32, 32, 3, dtype=torch.uint8)).mask.float().mean())

    steps = [scenes.conversations(step, 16, "language")[0] for step in range(2 * ALIKE)]
    alike = np.mean([padded(step) for step in steps])
    mixed = np.mean([padded([each for step in steps for each in step][at :: 2 * ALIKE]) for at in range(2 * ALIKE)])
    assert alike < 0.6 * mixed


# --- training ---

@pytest.mark.parametrize(("stage", "parts"), [
    ("language", {"model.language_model", "lm_head", "output"}),
    ("align", {"model.multi_modal_projector"}),
    ("instruct", {"model.language_model", "lm_head", "model.multi_modal_projector", "output"})])
def test_a_stage_trains_what_it_says(seer: Seer, pair: Pair, scenes: Scenes, tmp_path: Path, stage: Stage,
                                     parts: set[str]) -> None:
    before, told = weights(seer), copy.deepcopy(pair.model.state_dict())
    recipe = Recipe(steps=3, batch=8, language=3, align=3, warmup=1, bfloat16=False)
    training.train(Talking(seer, pair, scenes, recipe, stage), recipe.of(stage), tmp_path)
    found = changed(before, weights(seer))
    tops = {name.split(".")[0] if not name.startswith("model.") else ".".join(name.split(".")[:2]) for name in found}
    assert tops == parts
    for part in parts:                    # and all of it
        assert {name for name in before if name.startswith(part)} <= found
    assert all(torch.equal(value, told[name]) for name, value in pair.model.state_dict().items())


def test_all_stages_together_never_touch_the_tower(seer: Seer, pair: Pair, tmp_path: Path) -> None:
    before = weights(seer)
    order: list[str] = []

    def tell(stage: Stage) -> Callable[[Told], None]:
        return lambda now: order.append(f"{stage} {now.step}/{now.steps}")

    train(seer, pair, Few(), Recipe(steps=2, batch=4, language=1, align=2, warmup=0, bfloat16=False), tmp_path, tell=tell)
    assert order == ["language 1/1", "align 1/2", "align 2/2", "instruct 1/2", "instruct 2/2"]
    found = changed(before, weights(seer))
    assert {name for name in before if "vision_tower" not in name} == found
    assert not seer.model.training
    assert all((tmp_path / stage / CHECKPOINT).exists() for stage in STAGES)


def test_a_stage_of_no_steps_trains_nothing(seer: Seer, pair: Pair, scenes: Scenes, tmp_path: Path) -> None:
    """What a model that comes trained is promised: see `madang train llava --from`."""
    told: list[str] = []
    recipe = Recipe(steps=1, batch=4, language=0, align=0, warmup=0, bfloat16=False)
    train(seer, pair, scenes, recipe, tmp_path, tell=lambda stage: lambda now: told.append(f"{stage} {now.step}"))
    assert told == ["instruct 1"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_goes_on_exactly_where_it_was(untaught: Seer, pair: Pair, scenes: Scenes, tmp_path: Path, stage: Stage) -> None:
    recipe = Recipe(steps=5, batch=6, language=5, align=5, warmup=2, threads=1)

    def trained(folder: str, *, stop: int = 0, kept_s: float = 120.0) -> dict[str, torch.Tensor]:
        made = Seer(copy.deepcopy(untaught.model), untaught.processor, copy.deepcopy(untaught.output))

        def tell(now: Told) -> None:
            if now.step == stop:
                raise KeyboardInterrupt

        training.train(Talking(made, pair, scenes, recipe, stage), recipe.of(stage), tmp_path / folder, keep_s=kept_s, tell=tell)
        return weights(made)

    whole_way = trained("whole")
    for stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            trained("cut", stop=stop, kept_s=0)
    assert not changed(whole_way, trained("cut"))


def test_the_whole_training_goes_on_exactly_where_it_was(untaught: Seer, pair: Pair, scenes: Scenes, tmp_path: Path) -> None:
    """Stopped within each stage, and at its end."""
    recipe = Recipe(steps=4, batch=6, language=2, align=2, warmup=1, threads=1)
    looks: list[tuple[str, int]] = []

    def trained(folder: str, stop: str = "") -> dict[str, torch.Tensor]:
        made = Seer(copy.deepcopy(untaught.model), untaught.processor, copy.deepcopy(untaught.output))

        def tell(stage: Stage) -> Callable[[Told], None]:
            def told(now: Told) -> None:
                if f"{stage} {now.step}" == stop:
                    raise KeyboardInterrupt
            return told

        def look(step: int) -> dict[str, float]:
            looks.append((folder, step))
            return {"score": step / 4}

        train(made, pair, scenes, recipe, tmp_path / folder, look=look, every=1, tell=tell)
        return weights(made)

    whole_way = trained("whole")
    for stop in ("language 1", "language 2", "align 1", "align 2", "instruct 1", "instruct 3"):
        with pytest.raises(KeyboardInterrupt):
            trained("cut", stop)
    assert not changed(whole_way, trained("cut"))
    assert looks == [(folder, step) for folder in ("whole", "cut") for step in (1, 2, 3, 4)]      # none of them twice
    histories = [[json.loads(line) for line in (tmp_path / folder / "instruct" / HISTORY).read_text().splitlines()]
                 for folder in ("whole", "cut")]
    assert next([(line["step"], line["loss"], line["score"]) for line in lines] for lines in histories) == [
        (line["step"], line["loss"], line["score"]) for line in histories[1]]


def test_a_checkpoint_of_another_recipe_or_other_data_and_a_damaged_one_are_refused(
        seer: Seer, pair: Pair, scenes: Scenes, tmp_path: Path) -> None:
    recipe = Recipe(steps=1, batch=4, language=1, align=1, warmup=0)
    train(seer, pair, scenes, recipe, tmp_path, about={"data": "scenes"})
    for other, said in ((replace(recipe, batch=6), r"batch 4 \(now 6\)"), (replace(recipe, draw=2.0), r"draw 1\.0 \(now 2\.0\)"),
                        (replace(recipe, align=2), r"align 1 \(now 2\)")):
        with pytest.raises(Conflict, match=said):
            train(seer, pair, scenes, other, tmp_path, about={"data": "scenes"})
    with pytest.raises(Conflict, match=r"data scenes \(now told\.jsonl\)"):
        train(seer, pair, scenes, recipe, tmp_path, about={"data": "told.jsonl"})
    train(seer, pair, scenes, replace(recipe, threads=1), tmp_path, about={"data": "scenes"})        # makes no difference
    (tmp_path / "align" / CHECKPOINT).write_bytes(b"PK nothing")
    with pytest.raises(Corrupt, match="Delete it to begin anew"):
        train(seer, pair, scenes, recipe, tmp_path, about={"data": "scenes"})


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 1}, {"learning_rate": 1.0}, {"learning_rate": float("nan")},
                                   {"warmup": -1}, {"threads": -1}])
def test_recipes_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Recipe(**wrong)


# --- answers ---

def test_it_says_what_it_learnt_of_each_picture(taught: Seer) -> None:
    assert taught.answers(list(WALLS), [question for question, _ in LESSONS]) == [answer for _, answer in LESSONS]
    assert taught.answers([], []) == []
    assert taught.answers(list(WALLS[:1]), ["What is it?"], most=1) == ["A"]


def test_many_together_are_answered_as_each_by_itself(taught: Seer) -> None:
    """More than are computed at once, of different sizes, with questions of different lengths."""
    pictures = [np.asarray(Pictures.fromarray(WALLS[at % 3]).resize((32 + at, 64 - at // 2))) for at in range(70)]
    questions = [("What is it?", "무엇인가요?", "And what else may it be, if you look at it once more?")[at // 3 % 3] for at in range(70)]
    together = taught.answers(pictures, questions, most=12)
    assert together == [taught.answers([picture], [question], most=12)[0]
                        for picture, question in zip(pictures, questions, strict=True)]
    assert len(set(together)) >= 3


def test_saved_and_loaded_it_is_the_same_with_its_way_to_draw(taught: Seer, folder: Path, tmp_path: Path) -> None:
    again = load(str(folder))
    assert not changed(weights(taught), weights(again))
    assert (again.side, again.patches) == (taught.side, taught.patches) == (32, 16)
    assert again.answers(list(WALLS), ["What is it?"] * 3) == taught.answers(list(WALLS), ["What is it?"] * 3)
    states = torch.randn(2, len(tokens.PICTURE), 64)
    assert again.output is not None
    assert taught.output is not None
    assert torch.equal(again.output(states), taught.output(states))
    again.save(tmp_path / "once more")
    for each in ("model.safetensors", OUTPUT, "chat_template.jinja", "tokenizer.json"):      # what was asked leaves no trace
        assert (tmp_path / "once more" / each).read_bytes() == (folder / each).read_bytes(), each
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / OUTPUT).unlink()
    assert load(str(bare)).output is None


def test_what_is_no_llava_is_told(folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a clip, not a LLaVA"):
        load(str(clip_folder))
    with pytest.raises(NotFound, match="nowhere"):
        load(str(tmp_path / "nowhere"))
    for name in ("model.safetensors", OUTPUT, "tokenizer.json", "config.json", "processor_config.json"):
        broken = shutil.copytree(folder, tmp_path / name)
        (broken / name).write_bytes(b"\0" * 100)
        with pytest.raises(Corrupt, match="cannot be loaded"):
            load(str(broken))


def without(folder: Path, out: Path, part: str) -> Path:
    """A copy that lacks the weights in whose names `part` is."""
    found = load_file(shutil.copytree(folder, out) / "model.safetensors")
    assert any(part in name for name in found)
    save_file({name: value for name, value in found.items() if part not in name}, out / "model.safetensors", {"format": "pt"})
    return out


@pytest.mark.parametrize(("part", "told"), [
    ("projector.linear_1.weight", "it has no [a-z_.]*projector.linear_1.weight"),
    ("projector", r"it has no [a-z_.]*projector.linear_1.bias, and 3 more"),
    ("embed_tokens", r"it has no [a-z_.]*embed_tokens.weight, and 1 more"),       # what is tied to it is not named
])
def test_missing_weights_are_not_made_up(folder: Path, tmp_path: Path, part: str, told: str) -> None:
    broken = without(folder, tmp_path / "broken", part)
    with pytest.raises(Corrupt, match=f"broken cannot be loaded from .*: {told}"):
        load(str(broken))
    with pytest.raises(Corrupt, match=f"broken cannot be loaded from .*: {told}"):      # as it chats
        Loaded(broken, Local(device="cpu"), "broken")


def test_weights_that_are_not_used_may_be_missing(folder: Path, tmp_path: Path, taught: Seer) -> None:
    """A LLaVA looks at the states of its tower's patches, which its end does not change."""
    bare = without(folder, tmp_path / "bare", "post_layernorm")
    questions = ["What is it?"] * 3
    assert load(str(bare)).answers(list(WALLS), questions) == taught.answers(list(WALLS), questions)
    assert Loaded(bare, Local(device="cpu"), "bare").sees


def shown(picture: np.ndarray) -> Image:
    return Image("image/png", coded(Pictures.fromarray(picture)))


def test_a_folder_here_is_named_with_a_dot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `madang train llava` says it."""
    monkeypatch.chdir(folder.parent)
    model = TransformersProvider(Local(device="cpu")).chat_model("./walls")
    assert model.name == "transformers/./walls"
    assert reply_of(model, "What is it?", WALLS[0])[0] == "A red wall."


def test_it_answers_as_a_chat_model_under_its_folders_name(folder: Path, taught: Seer, tmp_path: Path) -> None:
    name = f"transformers/{folder}"
    with madang.open(tmp_path / "ws") as ws:
        model = ws.models.chat_model(name)
        assert model.name == name
        for picture, (question, answer) in zip(WALLS, LESSONS, strict=True):
            deltas = list(model.chat([Message("user", question, parts=(shown(picture), question))]))
            assert "".join(delta.text for delta in deltas) == answer
            assert deltas[-1].finish_reason == "stop"
            assert deltas[-1].usage is not None
            prompt = f"{tokens.USER}{tokens.IMAGE * taught.patches}{question}{tokens.END}{tokens.ASSISTANT}"
            assert deltas[-1].usage.prompt_tokens == len(taught.processor.tokenizer(prompt)["input_ids"])
        assert ws.describe_image(WALLS[1], "What is it?", model=name) == "A blue wall, at night."
        assert ws.describe_image(coded(Pictures.fromarray(WALLS[0])), "What is it?", model=name) == "A red wall."
        with pytest.raises(InvalidInput, match="question is empty"):
            ws.describe_image(WALLS[0], " ", model=name)
        with pytest.raises(Unreadable, match="no picture"):
            ws.describe_image(b"no picture", model=name)
        several = [Message("user", "?", parts=(shown(WALLS[0]), "What is it?")), Message("assistant", "A red wall."),
                   Message("user", "?", parts=("And this?", shown(WALLS[1])))]
        deltas = list(model.chat(several, ChatOptions(max_tokens=3)))
        assert deltas[-1].usage is not None
        assert deltas[-1].usage.prompt_tokens > 2 * taught.patches


class Painter(UnclipImages):
    """Keeps what it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__("diffusers/x", folder, seer_of)
        self.vectors: list[np.ndarray] = []

    def draw_vector(self, vector: Any, options: DrawOptions | None = None, **more: Any) -> list[Drawing]:
        self.vectors.append(np.array(vector))
        return super().draw_vector(vector, options, **more)


@pytest.mark.parametrize(("each", "words", "gap"), [(DRAW, "a star ", "\n\n"), (PAINT, "", "")], ids=["after words", "at once"])
def test_where_it_says_a_picture_one_is_drawn_from_what_it_meant(folder: Path, taught: Seer, unclip_folder: Path, each: Conversation,
                                                                 words: str, gap: str) -> None:
    painter = Painter(unclip_folder)
    model = DrawingChat("transformers/x", folder, Local(device="cpu"), lambda: painter)
    ((asked, _),) = each.turns

    def answered(seed: int | None = 3) -> tuple[str, Any]:
        deltas = list(model.chat([Message("user", asked)], ChatOptions(seed=seed)))
        return "".join(delta.text for delta in deltas), deltas[-1]

    said, last = answered()
    found = re.fullmatch(rf"{words}{gap}!\[picture\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", said)
    assert found is not None
    tokenizer = taught.processor.tokenizer
    assert last.finish_reason == "stop"
    assert last.usage.prompt_tokens == len(tokenizer(f"{tokens.USER}{asked}{tokens.END}{tokens.ASSISTANT}")["input_ids"])
    assert last.usage.completion_tokens == len(tokenizer(words)["input_ids"]) + len(tokens.PICTURE)
    assert answered() == (said, last)
    assert answered(seed=4)[0] != said
    (whole_piece,) = meant(taught, [each])               # what was trained, with the whole conversation in one piece
    vector = whole_piece / np.linalg.norm(whole_piece)
    assert np.stack(painter.vectors) == pytest.approx(np.stack([vector] * 3), abs=1e-4)
    drawn = painter.draw_vector(vector, DrawOptions(seed=3))[0]
    pixels = [np.asarray(Pictures.open(BytesIO(data))).astype(int) for data in (drawn.data, base64.b64decode(found[1]))]
    assert np.abs(pixels[0] - pixels[1]).max() <= 2
    assert reply_of(model, asked, seed=3) == (words.strip(), base64.b64decode(found[1]))
    assert reply_of(model, "What is it?", WALLS[0]) == ("A red wall.", None)


def test_words_before_a_picture_are_told_before_it_is_drawn(folder: Path, unclip_folder: Path) -> None:
    painters: list[Painter] = []

    def painter() -> Painter:
        painters.append(Painter(unclip_folder))
        return painters[-1]

    model = DrawingChat("transformers/x", folder, Local(device="cpu"), painter)
    told, drawn = [], []
    for delta in model.chat([Message("user", "Draw a star.")], ChatOptions(seed=1)):
        (drawn if painters else told).append(delta)
    assert "".join(delta.text for delta in told) == "a star "
    assert len(told) > 1
    assert all(delta.text and delta.finish_reason is None and delta.usage is None for delta in told)
    assert [(delta.text[:12], delta.finish_reason) for delta in drawn] == [("\n\n![picture]", None), ("", "stop")]
    assert {delta.model for delta in (*told, *drawn)} == {"transformers/x"}


def test_what_ends_within_the_words_is_not_drawn(folder: Path, taught: Seer, unclip_folder: Path) -> None:
    painters: list[Painter] = []

    def painter() -> Painter:
        painters.append(Painter(unclip_folder))
        return painters[-1]

    model = DrawingChat("transformers/x", folder, Local(device="cpu"), painter)
    ids = taught.processor.tokenizer("a star ")["input_ids"]

    def answered(**options: Any) -> tuple[str, str | None, int]:
        deltas = list(model.chat([Message("user", "Draw a star.")], ChatOptions(**options)))
        assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1].usage is not None
        return "".join(delta.text for delta in deltas), deltas[-1].finish_reason, deltas[-1].usage.completion_tokens

    for most in range(1, len(ids) + 1):
        assert answered(max_tokens=most) == (taught.processor.tokenizer.decode(ids[:most]), "length", most)
    text, reason, count = answered(stop=("star",))
    assert (text, reason) == ("a ", "stop")
    assert count <= len(ids)
    assert answered(stop=("a",))[:2] == ("", "stop")
    stopped = model.chat([Message("user", "Draw a star.")])
    next(iter(stopped))
    stopped.close()     # type: ignore[attr-defined]
    assert not painters
    # What only begins like a stop is told, and drawn.
    for stop in ("star!", " \n", "moon"):
        text, reason, count = answered(stop=(stop,))
        assert text.startswith("a star \n\n![picture](data:")
        assert (reason, count) == ("stop", len(ids) + len(tokens.PICTURE))
    assert len(painters) == 1


def test_what_cannot_be_drawn_is_told_and_words_need_no_painter(folder: Path, tmp_path: Path) -> None:
    painters: list[int] = []

    def painter() -> UnclipImages:
        painters.append(1)
        return UnclipImages("diffusers/none", tmp_path / "none", seer_of)

    model = DrawingChat("transformers/x", folder, Local(device="cpu"), painter)
    assert reply_of(model, "What is it?", WALLS[0])[0] == "A red wall."
    assert not painters
    with pytest.raises(Corrupt, match="cannot be loaded"):
        reply_of(model, "Draw a star.")
    deltas = list(model.chat([Message("user", "?", parts=(shown(WALLS[0]), "What is it?"))], ChatOptions(stop=(" wall",))))
    assert "".join(delta.text for delta in deltas) == "A red"


def test_who_draws_is_loaded_once(folder: Path, unclip_folder: Path) -> None:
    painters: list[UnclipImages] = []

    def painter() -> UnclipImages:
        painters.append(UnclipImages("diffusers/x", unclip_folder, seer_of))
        return painters[-1]

    model = DrawingChat("transformers/x", folder, Local(device="cpu"), painter)
    assert all(reply_of(model, "Draw a star.", seed=seed)[1] for seed in (1, 2))
    assert len(painters) == 1


def test_a_folder_at_home_can_draw_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert isinstance(TransformersProvider(Local(device="cpu")).chat_model(f"~/{folder.name}"), DrawingChat)


def test_a_way_to_draw_for_vectors_of_another_width_is_told(folder: Path, unclip_folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    save_file(OutputProjector(64, 20).state_dict(), other / OUTPUT)
    model = DrawingChat("transformers/x", other, Local(device="cpu"), lambda: UnclipImages("d", unclip_folder, seer_of))
    with pytest.raises(InvalidInput, match="24 numbers are needed"):
        reply_of(model, "Draw a star.")


def test_describing_from_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen = tmp_path / "seen"
    seen.mkdir()
    for name, wall in zip(("a.png", "b.png"), WALLS, strict=False):
        Pictures.fromarray(wall).resize((80, 50)).save(seen / name)
    asked = ["--question", "What is it?", "--model", f"transformers/{folder}"]
    assert entry(["image", "describe", "seen/a.png", *asked]) == 0
    assert capsys.readouterr().out == "A red wall.\n"
    assert entry(["image", "describe", "seen", *asked]) == 0
    assert capsys.readouterr().out == "seen/a.png: A red wall.\nseen/b.png: A blue wall, at night.\n"
    (seen / "broken.png").write_bytes(b"broken")
    code = entry(["image", "describe", "seen", *asked, "--json"])
    told = capsys.readouterr()
    assert code == 1
    assert "broken.png" in told.err
    found = json.loads(told.out)
    assert (found["model"], found["question"]) == (f"transformers/{folder}", "What is it?")
    assert found["pictures"] == [{"file": "seen/a.png", "text": "A red wall."},
                                 {"file": "seen/b.png", "text": "A blue wall, at night."}]
    (tmp_path / "madang.toml").write_text(f'[models]\ndescribe = "transformers/{folder}"\n')
    assert entry(["image", "describe", "seen/b.png", "-q", "What is it?", "--workspace", "."]) == 0
    assert capsys.readouterr().out == "A blue wall, at night.\n"
    for wrong, said in ((["seen/a.png", "-q", ""], "question is empty"), (["seen/a.png", "--model", "transformers/./no"], "no folder"),
                        (["seen/no.png"], "does not exist")):
        assert entry(["image", "describe", *wrong]) != 0
        assert said in capsys.readouterr().err


def test_a_question_that_names_the_mark_of_a_picture_does_not_end_in_a_fault_of_the_service(folder: Path) -> None:
    """One text more than pictures: who asks is told, or is answered."""
    model = TransformersProvider(Local(device="cpu")).chat_model(str(folder))
    question = "What is <image>?"
    try:
        said = "".join(delta.text for delta in model.chat([Message("user", question, parts=(shown(WALLS[0]), question))],
                                                          ChatOptions(max_tokens=5)))
    except InvalidInput:
        return
    assert isinstance(said, str)


# --- instructions ---

def conversation(image: str = "a.png", question: str = "What is it?", answer: str = "A wall.", **more: Any) -> dict[str, Any]:
    return {"id": image, "image": image, **more, "conversations": [{"from": "human", "value": f"<image>\n{question}"},
                                                                   {"from": "gpt", "value": answer}]}


def lines(path: Path, *entries: Any) -> Path:
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in entries), encoding="utf-8")
    return path


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A file of conversations, with two pictures beside it."""
    for at, wall in enumerate(WALLS[:2]):
        Pictures.fromarray(wall).save(tmp_path / f"{'ab'[at]}.png")
    return lines(tmp_path / "told.jsonl", conversation("a.png", answer="A red wall."), conversation("b.png", answer="파란 벽"))


def test_an_array_and_lines_of_json_read_the_same(tmp_path: Path) -> None:
    entries = [conversation("a.png"), conversation("deep/b.png", "색은?", "빨간색 🦊\nand <b>more</b>", kind="detail")]
    entries[0]["conversations"] += [{"from": "human", "value": " And then? "}, {"from": "gpt", "value": " Nothing. "}]
    entries[1]["conversations"][0]["value"] = "색은?\n<image>"
    (tmp_path / "array.json").write_text("\n " + json.dumps(entries, indent=2), encoding="utf-8")
    lines(tmp_path / "lines.jsonl", *entries)
    found = [read_instructions(tmp_path / name) for name in ("array.json", "lines.jsonl")]
    assert next([(each.name, each.text, each.about) for each in one] for one in found) == [
        (each.name, each.text, each.about) for each in found[1]]
    assert [each.about["turns"] for each in found[0]] == [
        [("What is it?", "A wall."), ("And then?", "Nothing.")], [("색은?", "빨간색 🦊\nand <b>more</b>")]]


def _turns(*said: tuple[str, str]) -> dict[str, Any]:
    return {"image": "a.png", "conversations": [{"from": who, "value": what} for who, what in said]}


@pytest.mark.parametrize(("wrong", "said"), [
    (_turns(("gpt", "a"), ("human", "b")), "entry 2: not a conversation"),
    (_turns(("human", "a")), "entry 2"),
    (_turns(("human", "a"), ("gpt", "b"), ("human", "c")), "entry 2"),
    (_turns(("human", "a"), ("human", "b")), "human and gpt"),
    (_turns(), "human and gpt"),
    ({"image": "a.png"}, "conversations"),
    ({"conversations": []}, "image"),
    ({"image": "a.png", "conversations": [{"from": "human"}, {"from": "gpt", "value": "a"}]}, "value"),
    ({"image": "a.png", "conversations": "hello"}, "entry 2"),
    ("text", "entry 2"), ([1], "entry 2"), (None, "entry 2"), (7, "entry 2")])
def test_wrong_turns_are_told_with_the_entry(tmp_path: Path, wrong: Any, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        read_instructions(lines(tmp_path / "told.jsonl", conversation(), wrong))


def test_a_file_that_is_no_instructions_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file"):
        read_instructions(tmp_path / "none.jsonl")
    with pytest.raises(NotFound, match="there is no file"):
        read_instructions(tmp_path)
    for wrong in (b"not json", b"[1, 2", b"\xff\xfe\x00", b'{"image": "a.png"'):
        (tmp_path / "wrong.json").write_bytes(wrong)
        with pytest.raises(Unreadable, match="neither a JSON array nor JSON Lines"):
            read_instructions(tmp_path / "wrong.json")
    for few in ("", "[]", json.dumps(conversation())):
        (tmp_path / "few.json").write_text(few)
        with pytest.raises(InvalidInput, match="at least 2 are needed"):
            read_instructions(tmp_path / "few.json")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "deep/../../x.png", "link.png"])
def test_a_picture_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.png").write_bytes(coded(noise(1)))
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InvalidInput, match=r"entry 2: .* outside the file's folder"):
        read_instructions(lines(inside / "told.jsonl", conversation(), conversation(name)))


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MadangError, match="entry 2"):
        read_instructions(lines(tmp_path / "told.jsonl", conversation(), conversation("a\0b.png")))


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\u2029"])
def test_signs_that_are_no_line_ends_of_json_are_part_of_an_answer(tmp_path: Path, sign: str) -> None:
    """As `madang data instruct` writes them, where a model said them."""
    found = read_instructions(lines(tmp_path / "told.jsonl", conversation(answer=f"one{sign}two"), conversation()))
    assert found[0].about["turns"] == [("What is it?", f"one{sign}two")]


@pytest.mark.parametrize("array", [True, False])
def test_a_mark_of_byte_order_at_the_beginning_is_no_fault(tmp_path: Path, array: bool) -> None:
    text = json.dumps([conversation()] * 2) if array else f"{json.dumps(conversation())}\n" * 2
    (tmp_path / "told.json").write_text(text, encoding="utf-8-sig")
    assert len(read_instructions(tmp_path / "told.json")) == 2


def test_half_a_surrogate_is_told_with_its_entry(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(coded(noise(1)))
    path = tmp_path / "told.jsonl"
    path.write_text("".join(json.dumps(conversation(answer=answer)) + "\n" for answer in ("fine", "half \ud800")))
    with pytest.raises(Unreadable, match="entry 2"):
        Instructions(read_instructions(path), tmp_path / "kept", 32)


def test_broken_pictures_are_reported_and_not_learnt_from(told: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    (tmp_path / "dir.png").mkdir()
    entries = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    lines(told, *entries, conversation("broken.png"), conversation("none.png"), conversation("dir.png"))
    done: list[int] = []
    source = Instructions(read_instructions(told), tmp_path / "kept", 32, progress=done.append)
    assert [name for name, _ in source.broken] == ["broken.png", "none.png", "dir.png"]
    assert (len(source), sum(done)) == (2, 5)
    assert (np.asarray(source.pictures) == WALLS[:2]).all()
    for name in ("a.png", "b.png"):
        (tmp_path / name).unlink()
    with pytest.raises(InvalidInput, match="0 of 5 pictures can be read"):
        Instructions(read_instructions(told), tmp_path / "kept", 32)


def test_every_conversation_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    for at in range(7):
        (tmp_path / f"{at}.png").write_bytes(coded(Pictures.new("RGB", (32, 32), (at, at, at))))
    found = read_instructions(lines(tmp_path / "told.jsonl", *(conversation(f"{at}.png", answer=str(at)) for at in range(7))))
    for size in (1, 3, 7, 17):
        source = Instructions(found, tmp_path / "kept", 32)
        seen = []
        for step in range(14):
            talks, pictures = source.conversations(step, size, "instruct")
            assert len(talks) == size
            assert [int(picture[0, 0, 0]) for picture in pictures] == [int(each.turns[0][1]) for each in talks]
            assert source.conversations(step, size, "instruct")[0] == talks
            seen += [each.turns[0][1] for each in talks]
        for start in range(0, len(seen) - 6, 7):
            assert sorted(seen[start : start + 7]) == list("0123456"), size


def test_stages_take_of_instructions_what_they_teach(told: Path, tmp_path: Path, untaught: Seer) -> None:
    two = conversation("a.png", answer="A red wall.")
    two["conversations"] += [{"from": "human", "value": "More?"}, {"from": "gpt", "value": "No."}]
    source = Instructions(read_instructions(lines(told, two, conversation("b.png"))), tmp_path / "kept", 32)
    for stage, longest, pictures in (("language", 2, 0), ("align", 1, 4), ("instruct", 2, 4)):
        talks, seen = source.conversations(0, 4, stage)     # type: ignore[arg-type]
        assert max(len(each.turns) for each in talks) == longest
        assert len(seen) == pictures
        assert batch(untaught, talks, seen).ids.shape[0] == 4


def test_what_the_offline_writer_writes_is_read(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 3, side=32)
    written = write_instructions(read_pairs(tmp_path / "scenes"), tmp_path / "told.jsonl", Grammar(), base=tmp_path / "scenes")
    found = read_instructions(tmp_path / "told.jsonl")
    assert len(found) == written.conversations == 12
    assert sum(len(each.about["turns"]) for each in found) == written.turns
    assert read(next(each.about["turns"][0][1] for each in found if each.name == "scenes/0000000.png"), "en") == whole(scene(0))
    assert len(Instructions(found, tmp_path / "kept", 32)) == 12


def test_an_answer_may_name_the_mark_of_a_picture(told: Path, tmp_path: Path, seer: Seer, pair: Pair) -> None:
    source = Instructions(read_instructions(lines(told, conversation("a.png", answer="Write <image> there."), conversation("b.png"))),
                          tmp_path / "kept", 32)
    assert torch.isfinite(Talking(seer, pair, source, Recipe(batch=2), "instruct").loss(0))


def test_a_conversation_that_is_longer_than_the_model_takes_is_cut_or_refused(told: Path, tmp_path: Path, untaught: Seer) -> None:
    source = Instructions(read_instructions(lines(told, conversation("a.png", answer="나" * 2000), conversation("b.png"))),
                          tmp_path / "kept", 32)
    try:
        made = batch(untaught, *source.conversations(0, 2, "instruct"))
    except MadangError:
        return
    assert made.ids.shape[1] <= untaught.model.config.text_config.max_position_embeddings


# --- from start to finish ---

def _recipe(**more: Any) -> Recipe:
    return Recipe(**{"steps": 3, "batch": 4, "language": 2, "align": 2, "warmup": 1, "threads": 1, **more})


def test_a_small_one_from_nothing_on_scenes(short: None, clip_folder: Path, pair: Pair, tmp_path: Path) -> None:
    wish = Wish(tmp_path / "out", clip=str(clip_folder), recipe=_recipe(), groups=2, every=2, pool=tmp_path / "pool", looks=2, small=TINY)
    said: list[str] = []
    seen: list[tuple[str, int]] = []

    def tell(stage: Stage) -> Callable[[Told], None]:
        return lambda now: seen.append((stage, now.step))

    found = run(wish, tell=tell, say=said.append)
    assert found.folder == tmp_path / "out"
    assert found.broken == []
    parts = {"background", "time", "count", "shape", "colour", "size", "position", "yes/no"}
    assert found.scores.keys() == parts | {f"{name} ko" for name in parts}
    assert all(0 <= value <= 1 for value in found.scores.values())
    assert seen == [("language", 1), ("language", 2), ("align", 1), ("align", 2), *(("instruct", step) for step in (1, 2, 3))]
    assert [line.partition(":")[0] for line in said] == [
        "painting 16 scenes (once)", "training", "stage", "stage", "stage", "saving"]
    inside = tmp_path / "out" / "training"
    history = [json.loads(line) for line in (inside / "instruct" / HISTORY).read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 3]
    assert history[-1]["yes/no ko"] == found.scores["yes/no ko"]
    with Pictures.open(inside / "sheet.png") as sheet:
        assert sheet.size[0] > 4 * 220
    assert "<svg" in (inside / "instruct" / "curves.html").read_text()
    assert sorted(path.suffix for path in (tmp_path / "pool").iterdir()) == [".npy"]
    assert not list(inside.glob("*.npy"))

    made = load(str(tmp_path / "out"))
    tower = {name.removeprefix("model.vision_tower."): value for name, value in made.model.state_dict().items() if "vision_tower" in name}
    assert tower.keys() == pair.model.vision_model.state_dict().keys()
    assert all(torch.equal(value, pair.model.vision_model.state_dict()[name]) for name, value in tower.items())
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    seen.clear()
    run(wish, tell=tell)                         # it is done already
    assert seen == []
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    with pytest.raises(Conflict, match=r"groups 2 \(now 3\)"):
        run(replace(wish, groups=3))


@pytest.fixture
def walls(tmp_path: Path) -> Path:
    """Thirty conversations about red and blue walls; one picture is broken."""
    place = tmp_path / "walls"
    place.mkdir()
    for at in range(30):
        Pictures.fromarray(WALLS[at % 2] - np.uint8(at // 4)).save(place / f"{at}.png")
    (place / "broken.png").write_bytes(b"broken")
    return lines(place / "told.jsonl", *(conversation(f"{at}.png", answer=LESSONS[at % 2][1]) for at in range(30)),
                 conversation("broken.png"))


def test_a_small_one_from_nothing_on_ones_own_pictures(short: None, clip_folder: Path, walls: Path, tmp_path: Path) -> None:
    recipe = _recipe(steps=80, batch=8, learning_rate=0.01, warmup=5, language=20, align=1, bfloat16=False)
    wish = Wish(tmp_path / "out", clip=str(clip_folder), data=str(walls), recipe=recipe, every=80, small={**TINY, "width": 64})
    found = run(wish)
    assert found.scores == {"same words": pytest.approx(1.0)}
    assert found.broken == [("broken.png", found.broken[0][1])]
    made = load(str(tmp_path / "out"))
    assert made.answers([*WALLS[:2]], ["What is it?"] * 2) == [answer for _, answer in LESSONS[:2]]
    with pytest.raises(Conflict, match="data"):
        run(replace(wish, data=str(lines(walls.with_name("other.jsonl"), conversation("0.png"), conversation("1.png"), conversation("2.png")))))


def test_a_saved_one_learns_more_and_only_what_is_new_changes(folder: Path, clip_folder: Path, walls: Path, tmp_path: Path) -> None:
    run(Wish(tmp_path / "out", start=str(folder), clip=str(clip_folder), data=str(walls), recipe=_recipe(), every=3))
    before, after = load(str(folder)), load(str(tmp_path / "out"))
    found = changed(weights(before), weights(after))
    assert found
    assert not any("vision_tower" in name for name in found)
    assert before.processor.tokenizer.get_vocab() == after.processor.tokenizer.get_vocab()
    assert after.processor.apply_chat_template([{"role": "user", "content": "a"}]) == f"{tokens.USER}a{tokens.END}"


@pytest.mark.parametrize("data", ["scenes", "walls"])
def test_low_rank_updates_change_little_and_save_a_whole_model(folder: Path, clip_folder: Path, walls: Path, tmp_path: Path,
                                                               data: str) -> None:
    wish = Wish(tmp_path / "out", start=str(folder), clip=str(clip_folder), data="scenes" if data == "scenes" else str(walls),
                recipe=_recipe(learning_rate=0.01, language=0, align=0), groups=2, lora=2, every=3, looks=1)
    run(wish)
    before, after = load(str(folder)), load(str(tmp_path / "out"))
    found = changed(weights(before), weights(after))
    tuned = {name for name in found if "language_model" in name or "lm_head" in name}
    assert tuned
    assert all("q_proj" in name or "v_proj" in name for name in tuned)
    assert found - tuned <= {name for name in weights(before) if "multi_modal_projector" in name or name.startswith("output")}
    assert after.answers(list(WALLS[:1]), ["What is it?"])


def test_low_rank_updates_begin_as_their_seed_says(folder: Path, clip_folder: Path, walls: Path, tmp_path: Path) -> None:
    wish = Wish(tmp_path, start=str(folder), clip=str(clip_folder), data=str(walls), recipe=_recipe(language=0, align=0), lora=2, every=3)
    found = []
    for name in "ab":
        torch.manual_seed(ord(name))                       # whatever was drawn before in this process
        run(replace(wish, out=tmp_path / name))
        found.append(weights(load(str(tmp_path / name))))
    assert not changed(*found)


def test_the_projector_is_aligned_alone_where_updates_are_of_low_rank_too(folder: Path, clip_folder: Path, walls: Path,
                                                                          tmp_path: Path) -> None:
    """Stopped after that stage, so that it can be seen what it has changed."""
    wish = Wish(tmp_path / "out", start=str(folder), clip=str(clip_folder), data=str(walls), lora=2, every=9,
                recipe=_recipe(language=0, align=2, learning_rate=0.01))

    def tell(stage: Stage) -> Callable[[Told], None]:
        if stage == "instruct":
            raise KeyboardInterrupt
        return lambda _: None

    with pytest.raises(KeyboardInterrupt):
        run(wish, tell=tell)
    found = torch.load(tmp_path / "out" / "training" / "align" / CHECKPOINT, weights_only=True)["modules"]["model"]
    updates = [value for name, value in found.items() if "lora_B" in name]
    assert updates
    assert not any(value.any() for value in updates)       # as they begin: no update


def test_what_cannot_be_trained_is_told(short: None, clip_folder: Path, folder: Path, told: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--from"):
        run(Wish(tmp_path / "out", clip=str(clip_folder), lora=4))
    with pytest.raises(InvalidInput, match="too few to hold some back"):
        run(Wish(tmp_path / "out", start=str(folder), clip=str(clip_folder), data=str(told)))
    with pytest.raises(NotFound, match="there is no file"):
        run(Wish(tmp_path / "out", start=str(folder), clip=str(clip_folder), data=str(tmp_path / "none.jsonl")))
    with pytest.raises(NotFound, match="nowhere"):
        run(Wish(tmp_path / "out", clip=str(tmp_path / "nowhere")))
    with pytest.raises(InvalidInput, match="not a LLaVA"):
        run(Wish(tmp_path / "out", start=str(clip_folder), clip=str(clip_folder)))
    with pytest.raises(InvalidInput, match="groups"):
        run(Wish(tmp_path / "out", start=str(folder), clip=str(clip_folder), groups=0))


def test_a_siglip_for_the_tower_of_a_small_one_is_told(short: None, siglip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="CLIP"):
        run(Wish(tmp_path / "out", clip=str(siglip_folder), recipe=_recipe(), groups=1, looks=1, small=TINY))


def test_no_picture_is_both_learnt_and_asked_about(short: None, clip_folder: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """`madang data instruct` writes four conversations about each picture."""
    for at in range(10):
        Pictures.fromarray(WALLS[2] - np.uint8(at)).save(tmp_path / f"{at}.png")
    lines(tmp_path / "told.jsonl", *(conversation(f"{at}.png", answer=kind) for at in range(10) for kind in "abcd"))
    made: list[set[bytes]] = []

    def kept(found: Any, place: Path, side: int, **more: Any) -> Instructions:
        made.append({each.name for each in found})
        return Instructions(found, place, side, **more)

    monkeypatch.setattr("madang.multimodal.llava.job.Instructions", kept)
    run(Wish(tmp_path / "out", clip=str(clip_folder), data=str(tmp_path / "told.jsonl"), recipe=_recipe(steps=1), small=TINY))
    assert not made[0] & made[1]


def test_a_broken_picture_is_reported_once_and_costs_only_itself(short: None, clip_folder: Path, tmp_path: Path) -> None:
    """Whichever of ten it is: one is held back."""
    for broken in range(10):
        place = tmp_path / str(broken)
        place.mkdir()
        for at in range(10):
            (place / f"{at}.png").write_bytes(b"broken" if at == broken else coded(Pictures.fromarray(WALLS[at % 3])))
        told = lines(place / "told.jsonl", *(conversation(f"{at}.png", answer=answer) for at in range(10) for answer in "ab"))
        found = run(Wish(place / "out", clip=str(clip_folder), data=str(told), recipe=_recipe(steps=1, language=1, align=1), small=TINY))
        assert [name for name, _ in found.broken] == [f"{broken}.png"]


def test_training_from_the_command_line(folder: Path, clip_folder: Path, walls: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "llava", "out", "--from", str(folder), "--clip", str(clip_folder), "--data", str(walls), "--steps", "3",
               "--batch", "4", "--language-steps", "1", "--align-steps", "1", "--learning-rate", "0.0001", "--every", "2", "--seed", "5"]
    code = entry([*command, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["folder"], [each["name"] for each in found["broken"]]) == (1, "out", ["broken.png"])
    assert found["scores"].keys() == {"same words"}
    recipe = torch.load(tmp_path / "out" / "training" / "instruct" / CHECKPOINT, weights_only=True)["recipe"]
    assert (recipe["steps"], recipe["language"], recipe["align"], recipe["seed"], recipe["learning_rate"]) == (3, 1, 1, 5, 0.0001)
    assert entry([*command, "--steps", "4"]) == 1
    assert "steps 3 (now 4)" in capsys.readouterr().err
    assert entry(["image", "describe", str(walls.with_name("0.png")), "-q", "What is it?", "--model", f"transformers/{tmp_path}/out"]) == 0
    assert capsys.readouterr().out.strip()
    for wrong, said in ((["--lora", "2"], "--from"), (["--data", "none.jsonl", "--from", str(folder)], "there is no file"), (["--batch", "1"], "--batch"),
                        (["--clip", "./none"], "no folder")):
        assert entry(["train", "llava", "other", *(["--clip", str(clip_folder)] if "--clip" not in wrong else []), *wrong]) != 0
        assert said in capsys.readouterr().err


# --- formats of the hub ---

def test_a_llava_next_sees_at_several_resolutions(next_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The processor and the model of the library, through the same provider."""
    from transformers import AutoProcessor

    model = TransformersProvider(Local(device="cpu", max_tokens=6)).chat_model(str(next_folder))
    processor = AutoProcessor.from_pretrained(next_folder)

    def about(picture: np.ndarray) -> tuple[str, int]:
        deltas = list(model.chat([Message("user", "what?", parts=(shown(picture), "what?"))]))
        assert deltas[-1].usage is not None
        return "".join(delta.text for delta in deltas), deltas[-1].usage.prompt_tokens

    counts = set()
    for width, height in ((32, 32), (100, 40), (40, 100), (64, 64)):
        picture = np.asarray(noise(3, 120).resize((width, height)))
        text, count = about(picture)
        given = processor(images=Pictures.fromarray(picture), text="<|im_start|>user\n<image>what?<|im_end|>\n<|im_start|>assistant\n",
                          return_tensors="pt")
        assert count == given["input_ids"].shape[1]
        assert about(picture) == (text, count)
        counts.add(count)
    assert len(counts) > 1
    path = tmp_path / "seen.png"
    path.write_bytes(coded(noise(1)))
    (tmp_path / "madang.toml").write_text("[local]\nmax_tokens = 6\n")
    assert entry(["image", "describe", str(path), "--model", f"transformers/{next_folder}", "--workspace", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["pictures"]) == 1
    assert load(str(next_folder)).tiled


@pytest.mark.parametrize("kind", ["vision_folder", "next_folder"])
def test_a_llava_of_the_hubs_format_is_tuned(kind: str, request: pytest.FixtureRequest, clip_folder: Path, walls: Path,
                                             tmp_path: Path) -> None:
    """One that has another tokenizer, another template and no way to draw."""
    start = str(request.getfixturevalue(kind))
    run(Wish(tmp_path / "out", start=start, clip=str(clip_folder), data=str(walls), recipe=_recipe(), every=3))
    before, after = load(start), load(str(tmp_path / "out"))
    assert after.output is None
    found = changed(weights(before), weights(after))
    assert any("language_model" in name for name in found)
    assert not any("vision_tower" in name for name in found)
    assert len(after.answers(list(WALLS), ["a", "b", "c"], most=4)) == 3
