"""There and back with models that are known: what is drawn is what was asked for, so every number can be told beforehand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import madang
from madang.base.errors import InvalidInput, NotFound
from madang.base.messages import ChatOptions, Delta, Message
from madang.cli.main import entry
from madang.models.protocol import Drawing, DrawOptions, ImageEmbedder, Picture
from madang.models.providers.bundled import BundledProvider
from madang.multimodal.roundtrip import Gallery, Prompts, Travel, rows_of
from madang.multimodal.scenes import scene
from madang.multimodal.scenes.paint import paint
from madang.multimodal.scenes.read import read
from madang.multimodal.scenes.words import prompt
from madang.multimodal.scenes.world import Scene, Thing
from madang.workspace import Workspace

SEED = 7


def scene_of(text: str) -> Scene:
    claim = read(text, "en")
    return Scene.of(str(claim.background), str(claim.time),
                    [Thing(str(each.shape), str(each.colour), str(each.size), str(each.position)) for each in claim.things])


class Painter:
    """Draws exactly what a prompt of the grammar says."""

    name = "test/painter"

    def __init__(self) -> None:
        self.asked: list[tuple[str, DrawOptions | None]] = []

    def draw(self, text: str, options: DrawOptions | None = None) -> list[Drawing]:
        self.asked.append((text, options))
        out = io.BytesIO()
        paint(scene_of(text), SEED, side=64).save(out, "PNG")
        return [Drawing(out.getvalue(), prompt="as I like it")]


class Seer:
    """Says what it was told to say."""

    name = "test/seer"

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, [""]

    def chat(self, messages: list[Message], options: ChatOptions | None = None) -> Any:
        self.asked.append(messages[0].content)
        assert messages[0].images[0].data.startswith(b"\x89PNG")
        yield Delta(self.text[:5])
        yield Delta(self.text[5:])


@pytest.fixture(scope="module")
def clip() -> ImageEmbedder:
    return BundledProvider().image_embedder("clip")


def picture(number: int) -> Picture:
    return np.asarray(paint(scene(number, "held-out"), SEED, side=64))


def travel(clip: ImageEmbedder, says: str, **more: Any) -> Travel:
    return Travel(lambda _: says, "test/seer", Painter(), clip, **more)


def test_a_perfect_description_brings_everything_back(clip: ImageEmbedder) -> None:
    made = scene(3, "held-out")
    others = Gallery(clip.embed_images([picture(number) for number in range(10, 40)]))
    trip = travel(clip, prompt(made), gallery=others).go(picture(3), "p.png", prompt=prompt(made, 5), scene=made, seed=11)
    assert [each.way for each in trip.versions] == ["description", "original"]      # no prompts, none is similar
    for each in trip.versions:
        assert each.similarity == pytest.approx(1, abs=1e-4)
        assert (each.rank, each.among, each.revised) == (1, 31, "as I like it")
        assert set(each.attributes.values()) == {1.0}
    assert trip.models == {"describe": "test/seer", "draw": "test/painter", "see": clip.name}


def test_a_wrong_colour_is_seen_and_the_seed_is_passed_on(clip: ImageEmbedder) -> None:
    made = Scene.of("sea", "day", [Thing("square", "red", "large", "middle")])
    wrong = "a large blue square in the middle over the sea by day"
    going = travel(clip, wrong)
    first = np.asarray(paint(made, SEED, side=64))
    trip = going.go(first, "p.png", scene=made, seed=11, ways=["description"])
    found = trip.versions[0]
    assert found.attributes["colour"] == 0
    assert all(value == 1 for name, value in found.attributes.items() if name != "colour")
    assert found.similarity < 0.99
    assert going.painter.asked == [(wrong, DrawOptions(seed=11))]      # type: ignore[attr-defined]


def test_the_rank_counts_what_is_nearer(clip: ImageEmbedder) -> None:
    vectors = clip.embed_images([picture(number) for number in range(8)])
    assert Gallery(vectors[1:]).rank(vectors[0], vectors[0]) == 1
    assert Gallery(vectors[1:]).rank(vectors[3], vectors[0]) > 1
    assert Gallery(vectors[:0]).rank(vectors[3], vectors[0]) == 1


def test_the_nearest_prompt_is_another_than_its_own(clip: ImageEmbedder) -> None:
    texts = [prompt(scene(number, "held-out"), split="held-out") for number in range(30)]
    prompts = Prompts.of([*texts, texts[3], "  "], clip)
    assert len(prompts.texts) == 30
    first = clip.embed_images([picture(3)])[0]
    assert prompts.nearest(first) == texts[3]
    assert prompts.nearest(first, texts[3]) not in ("", texts[3])
    assert Prompts([texts[3]], prompts.vectors[:1]).nearest(first, texts[3]) == ""
    with pytest.raises(InvalidInput, match="prompts"):
        Prompts.of(["", " "], clip)


def test_letters_hide_the_ways(clip: ImageEmbedder) -> None:
    made = scene(3, "held-out")
    trip = travel(clip, prompt(made)).go(picture(3), "p.png", prompt=prompt(made), scene=made)
    shown = [cell.text for cell in rows_of(trip, letters=True)[0].cells]
    assert shown[1:] == ["A", "B"]
    assert "similarity 1.000" in rows_of(trip)[0].cells[1].text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert entry(["data", "scenes", str(tmp_path / "scenes"), "--count", "12", "--side", "64"]) == 0
    return tmp_path / "scenes"


@pytest.fixture
def ws(tmp_path: Path) -> Any:
    with madang.open(tmp_path / "ws") as made:
        yield made


def answering(ws: Workspace, says: str) -> Seer:
    seer = Seer(says)
    ws.models.chat_model = lambda name: seer                    # type: ignore[assignment, method-assign, return-value]
    ws.models.image_generator = lambda name: Painter()          # type: ignore[assignment, method-assign]
    return seer


def test_a_run_is_kept_with_what_it_needs_to_be_done_again(ws: Workspace, folder: Path) -> None:
    told: list[str] = []
    seer = answering(ws, "a large red star in the middle, in a meadow by day")
    ws.ingest_images(folder)
    kept = ws.roundtrip_image(folder / "0000003.png", seed=5, progress=told.append, question="What is it?")
    assert seer.asked[-1] == "What is it?"
    assert {each.name for each in kept.folder.iterdir()} == {
        "run.json", "picture.png", "description.png", "original.png", "similar.png", "sheet.png", "sheet.html", "vote.html"}
    meta = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    assert kept.trip["prompt"] == meta[3]["text"]
    assert kept.trip["seed"] == 5
    by_way = {each["way"]: each for each in kept.trip["versions"]}
    assert by_way["similar"]["prompt"] in {each["text"] for each in meta} - {meta[3]["text"]}
    assert by_way["original"]["rank"] == 1
    assert by_way["original"]["among"] == 12
    assert set(by_way["original"]["attributes"].values()) == {1.0}
    assert any("drawing" in each for each in told)
    assert [each.id for each in ws.roundtrips.list()] == [kept.id]
    with Image.open(kept.folder / "original.png") as found:
        assert found.size == (64, 64)
    page = (kept.folder / "vote.html").read_text()
    assert "description" not in page
    assert "similarity" not in page


def test_without_a_collection_scenes_are_painted_once(ws: Workspace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("madang.workspace.roundtrips.SCENES", 40)
    answering(ws, "a large red star in the middle, in a meadow by day")
    first = ws.roundtrip_image(folder / "0000003.png", ways=["similar"], prompt="")
    assert first.trip["versions"][0]["among"] == 41
    monkeypatch.setattr("madang.multimodal.scenes.exam.painted", lambda *_: pytest.fail("painted again"))
    again = ws.roundtrip_image(folder / "0000003.png", ways=["similar"], prompt="")
    assert again.trip["versions"] == first.trip["versions"]


def test_a_vote_is_kept(ws: Workspace, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answering(ws, "a large red star in the middle, in a meadow by day")
    ws.ingest_images(folder)
    run = ws.roundtrip_image(folder / "0000003.png").id
    assert ws.roundtrips.vote(run, "B").vote == "original"
    assert ws.roundtrips.vote(run, "none").vote == "none"
    with pytest.raises(InvalidInput, match="'D'"):
        ws.roundtrips.vote(run, "D")
    for wrong in ("nonesuch", "../" + run, ""):
        with pytest.raises(NotFound):
            ws.roundtrips.vote(wrong, "A")
    path = str(ws.path)
    ws.close()
    assert entry(["image", "vote", run, "a", "-w", path]) == 0
    assert entry(["image", "roundtrips", "-w", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.split("\n", 1)[1])
    assert (found[0]["id"], found[0]["vote"]) == (run, "description")


def test_what_cannot_be_is_refused(ws: Workspace, folder: Path) -> None:
    answering(ws, "a star")
    with pytest.raises(NotFound, match="no picture"):
        ws.roundtrip_image(folder / "nothing.png")
    with pytest.raises(InvalidInput, match="sideways"):
        ws.roundtrip_image(folder / "0000003.png", ways=["sideways"])      # type: ignore[list-item]
    with pytest.raises(NotFound):
        ws.roundtrip_image(folder / "0000003.png", collection="nonesuch")
    (folder / "broken.png").write_bytes(b"no picture")
    with pytest.raises(madang.MadangError, match=r"broken\.png"):
        ws.roundtrip_image(folder / "broken.png")
    with pytest.raises(InvalidInput, match="question is empty"):
        ws.roundtrip_image(folder / "0000003.png", question=" ")
    assert not list(ws.path.glob("roundtrips/[0-9]*"))
