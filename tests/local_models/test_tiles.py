"""LLaVA-NeXT's tiles: the same weights, twice as sharp, and pages of scenes to learn from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from madang.base.errors import InvalidInput
from madang.base.settings import Local
from madang.cli.main import entry
from madang.models.protocol import Picture
from madang.models.providers.clip_pair import Pair
from madang.models.providers.clip_pair import load as load_pair
from madang.models.providers.transformers import TransformersProvider
from madang.multimodal.clip.pool import Pool
from madang.multimodal.llava import job
from madang.multimodal.llava.batches import Pages, batch
from madang.multimodal.llava.model import Seer, load, small
from madang.multimodal.llava.tiles import tiled
from madang.multimodal.llava.train import Recipe
from madang.multimodal.scenes import exam
from madang.multimodal.scenes.claims import whole
from madang.multimodal.scenes.interview import Answers
from madang.multimodal.scenes.pages import PANELS, examined, page
from madang.multimodal.scenes.phrases import PHRASES
from madang.multimodal.scenes.read import read
from madang.multimodal.scenes.talk import Talk
from madang.multimodal.scenes.words import VOCABULARIES, Language
from madang.workspace.pictures import reply_of

SIDE = 32        # of the small tower's pictures; a patch has 8


@pytest.fixture(scope="module")
def pair(clip_folder: Path) -> Pair:
    made = load_pair(str(clip_folder))
    made.model.requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def seer(pair: Pair) -> Seer:
    return small(pair, width=32, layers=1)


@pytest.fixture(scope="module")
def pool(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return Pool(tmp_path_factory.mktemp("pool"), pair, 3)


def noise(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


def test_weights_are_those_it_began_with_and_a_row_has_an_end(seer: Seer) -> None:
    made = tiled(seer)
    before, after = seer.model.state_dict(), made.model.state_dict()
    assert set(after) - set(before) == {"model.image_newline"}
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert made.output is seer.output
    assert (made.side, seer.side) == (2 * SIDE, SIDE)
    across = SIDE // 8
    assert (seer.patches, made.patches) == (across**2, across**2 + 2 * across * (2 * across + 1))
    assert tiled(made) is made


def test_it_sees_the_whole_and_each_quarter_as_the_tower_sees_a_picture(seer: Seer) -> None:
    """Written out: the tokens of the whole, then those of the quarters, row by row, with an end to each row."""
    made, across = tiled(seer), SIDE // 8
    picture = noise(1, 2 * SIDE)
    given = made.pixels(picture)
    quarters = np.stack([picture[0, top : top + SIDE, left : left + SIDE] for top in (0, SIDE) for left in (0, SIDE)])
    shown = torch.cat([given["pixel_values"][0, :1], seer.pixels(quarters)["pixel_values"]])
    assert torch.allclose(given["pixel_values"][0], shown, atol=1e-5)
    inner = seer.model.model
    with torch.no_grad():
        seen = inner.multi_modal_projector(inner.vision_tower(shown).last_hidden_state[:, 1:])
        first, *tiles = (each.view(across, across, -1) for each in seen)
        rows = torch.cat([torch.cat(tiles[:2], 1), torch.cat(tiles[2:], 1)], 0)
        end = made.model.model.image_newline.expand(2 * across, 1, -1)
        wanted = torch.cat([first.flatten(0, 1), torch.cat([rows, end], 1).flatten(0, 1)])
        found = made.model.get_image_features(**given)
    found = getattr(found, "pooler_output", found)[0]
    assert found.shape == (made.patches, 32)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_a_language_model_without_room_for_tiles_is_told(pair: Pair) -> None:
    narrow = small(pair, width=32, layers=1)
    narrow.model.config.text_config.max_position_embeddings = 200
    with pytest.raises(InvalidInput, match="takes 200 in all"):
        tiled(narrow)


def test_a_page_has_its_pictures_in_reading_order() -> None:
    pictures = noise(4, 5)
    made = page(pictures)
    for at, (top, left) in enumerate(((0, 0), (0, 5), (5, 0), (5, 5))):
        assert (made[top : top + 5, left : left + 5] == pictures[at]).all()


def test_what_is_asked_on_a_page_is_answered_of_the_picture_that_is_meant(pool: Pool) -> None:
    source = Pages(pool, 2 * SIDE)
    captions, asked = 0, set()
    for step in range(12):
        talks, pictures = source.conversations(step, 8, "instruct")
        again, _ = source.conversations(step, 8, "instruct")
        assert talks == again
        for talk, made in zip(talks, pictures.numpy(), strict=True):
            for question, answer in talk.turns:
                language: Language = "ko" if any("가" <= letter <= "힣" for letter in question) else "en"
                places = {panel: VOCABULARIES[language].position[panel][0] for panel in PANELS}
                (panel,) = (name for name, word in places.items()
                            if question.startswith(PHRASES[language].panel.split("{question}")[0].format(position=word)))
                asked.add(panel)
                if question.split(": ", 1)[1] not in PHRASES[language].ask["caption"]:
                    continue
                row, column = divmod(PANELS.index(panel), 2)
                shown = made[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]
                at = int((pool.pictures == shown).all((1, 2, 3)).argmax())
                assert (pool.pictures[at] == shown).all()
                assert read(answer, language) == whole(pool.made[at])
                captions += 1
    assert captions > 50
    assert asked == set(PANELS)
    talks, pictures = source.conversations(0, 8, "align")
    assert all(len(talk.turns) == 1 for talk in talks)
    assert Pages(pool, SIDE).conversations(0, 8, "align")[1].shape == (8, SIDE, SIDE, 3)
    talks, pictures = source.conversations(0, 8, "language")
    assert not len(pictures)
    assert not any(talk.picture for talk in talks)


def test_a_page_is_as_many_tokens_as_its_tiles(seer: Seer, pool: Pool) -> None:
    made = tiled(seer)
    read_ = batch(made, *Pages(pool, made.side).conversations(0, 3, "instruct"))
    mark = made.processor.tokenizer.convert_tokens_to_ids(made.processor.image_token)
    assert ((read_.ids == mark).sum(1) == made.patches).all()


def test_who_knows_the_pages_has_full_marks_and_who_mixes_up_the_pictures_has_not() -> None:
    held = [made for _, made in exam.scenes_of("held-out", 8)]

    def answers(shift: int) -> Answers:
        def told(pictures: Sequence[Picture], questions: Sequence[str]) -> list[str]:
            korean = "그림" in questions[0]
            talk = Talk(np.random.default_rng(0), "ko" if korean else "en")
            return [talk.caption(held[(at + shift) % len(held)]) for at in range(len(questions))]
        return told

    assert set(examined(answers(0), SIDE, 2).values()) == {1.0}
    assert examined(answers(1), SIDE, 2)["shape"] < 0.6


def test_training_with_tiles_on_pages(clip_folder: Path, tmp_path: Path) -> None:
    wish = job.Wish(tmp_path / "next", clip=str(clip_folder), data="pages", tiles=True, groups=2, every=2, looks=4,
                    recipe=Recipe(steps=2, batch=2, language=1, align=1, warmup=1),
                    small={"width": 32, "layers": 1})
    found = job.run(wish)
    assert {"shape", "shape ko"} <= set(found.scores)
    assert json.loads((tmp_path / "next" / "config.json").read_text())["model_type"] == "llava_next"
    made = load(str(tmp_path / "next"))
    assert made.tiled
    assert tiled(made) is made
    model = TransformersProvider(Local(device="cpu")).chat_model(str(tmp_path / "next"))
    said = reply_of(model, "What is it?", noise(1, 70)[0])[0]
    assert isinstance(said, str)
    assert job.run(wish).folder == tmp_path / "next"          # what is finished stays so


def test_tiles_from_the_command_line(clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def run(wish: job.Wish, **_: object) -> object:
        seen.append(wish)
        raise InvalidInput("tiles: seen.")

    monkeypatch.setattr(job, "run", run)
    assert entry(["train", "llava", str(tmp_path / "m"), "--tiles", "--data", "pages", "--from", "bundled/llava"]) != 0
    assert (seen[0].tiles, seen[0].data, seen[0].start) == (True, "pages", "bundled/llava")
    assert "tiles: seen" in capsys.readouterr().err
