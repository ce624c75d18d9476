"""`madang data scenes` and `madang image ingest|search|calibrate|classify`, with the bundled model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from madang.cli.main import entry
from madang.multimodal.pairs import read_pairs
from madang.multimodal.scenes import Scene, prompt, scene


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "scenes"
    assert entry(["data", "scenes", str(folder), "--count", "40", "--side", "96", "--split", "held-out", "--json"]) == 0
    return folder


@pytest.fixture(scope="module")
def workspace(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = str(tmp_path_factory.mktemp("ws"))
    assert entry(["image", "ingest", str(pictures), "-w", made, "--json"]) == 0
    return made


def said(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    """What a command says as JSON."""
    capsys.readouterr()
    assert entry([*command, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("layout", ["folder", "diffusiondb", "parquet"])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_scenes_in_every_layout_are_read_back(tmp_path: Path, layout: str, language: str) -> None:
    out = tmp_path / "out"
    assert entry(["data", "scenes", str(out), "--count", "5", "--start", "3", "--side", "32", "--layout", layout,
                  "--language", language, "--json"]) == 0
    found = read_pairs(out if layout != "parquet" else out / "scenes.parquet")
    assert [each.text for each in found] == [prompt(scene(seed), seed, language)  # type: ignore[arg-type]
                                             for seed in range(3, 8)]
    assert [each.about["seed"] for each in found] == [3, 4, 5, 6, 7]
    assert {Image.open(io.BytesIO(each.read())).size for each in found} == {(32, 32)}
    if layout != "diffusiondb":
        assert [Scene.from_dict(json.loads(each.about["scene"])) for each in found] == [scene(seed) for seed in range(3, 8)]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert entry(["data", "scenes", str(tmp_path), "--count", "1"]) == 1
    assert "not empty" in capsys.readouterr().err


def test_words_find_their_picture(workspace: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = 0
    for seed in range(12):
        text = prompt(scene(seed, "held-out"), seed, "ko" if seed % 2 else "en", split="held-out")
        found = said(capsys, "image", "search", text, "-w", workspace, "--top-k", "1")
        right += found["pictures"][0]["id"] == str(pictures / f"{seed:07d}.png")
    assert right >= 11
    found = said(capsys, "image", "search", "--image", str(pictures / "0000005.png"), "-w", workspace, "-k", "3")
    assert found["pictures"][0]["id"] == str(pictures / "0000005.png")
    none = said(capsys, "image", "search", "a star", "-w", workspace, "--filter", '{"width": {"$gt": 96}}')
    assert none["pictures"] == []


def test_sheets_show_what_was_found(workspace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("found.png", "found.html"):
        assert entry(["image", "search", "a <b>star</b> by day", "-w", workspace, "-k", "7", "--all", "--sheet",
                      str(tmp_path / name)]) == 0
    assert "contact sheet" in capsys.readouterr().out
    with Image.open(tmp_path / "found.png") as found:
        assert found.size[0] > 5 * 160
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert page.count("<img") == 7
    assert "<b>" not in page
    assert entry(["image", "search", "a star", "-w", workspace, "--sheet", str(tmp_path / "found.pdf")]) == 1
    assert ".html" in capsys.readouterr().err


def test_what_does_not_reach_the_cut_off_is_hidden(workspace: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = prompt(scene(2, "held-out"), 2, split="held-out")
    before = said(capsys, "image", "search", text, "-w", workspace, "-k", "40")
    assert (len(before["pictures"]), before["below_cut_off"]) == (40, 0)
    cut = said(capsys, "image", "calibrate", "-w", workspace)
    assert cut["questions"] == 40
    assert cut["precision"] > 0.7
    assert cut["recall"] > 0.7
    after = said(capsys, "image", "search", text, "-w", workspace, "-k", "40")
    assert 1 <= len(after["pictures"]) < 10
    assert after["below_cut_off"] == 40 - len(after["pictures"])
    everything = said(capsys, "image", "search", text, "-w", workspace, "-k", "40", "--all")
    assert len(everything["pictures"]) == 40


def test_classes_are_told_without_training(workspace: str, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "image", "classify", str(pictures), "--label", "desert", "--label", "forest", "--label", "sea",
                 "--template", "a picture of the {}", "--template", "in the {}", "-w", workspace)
    assert len(found) == 40
    truth = [scene(seed, "held-out").background for seed in range(40)]
    known = [(row["label"], background) for row, background in zip(found, truth, strict=True)
             if background in ("desert", "forest", "sea")]
    assert sum(one == other for one, other in known) > 0.8 * len(known)
    assert all(abs(sum(row["shares"].values()) - 1) < 1e-3 for row in found)


def test_mistakes_are_told_in_a_line(workspace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.png").write_text("bad")
    for command, named in ((["search", "-w", workspace], "text, picture"),
                           (["search", "a", "--filter", "{", "-w", workspace], "--filter"),
                           (["search", "a", "-c", "nowhere", "-w", workspace], "nowhere"),
                           (["search", "--image", str(tmp_path / "bad.png"), "-w", workspace], "bad.png"),
                           (["ingest", str(tmp_path / "none"), "-w", workspace], "none"),
                           (["classify", str(tmp_path / "bad.png"), "--label", "a", "-w", workspace], "two")):
        assert entry(["image", *command]) == 1, command
        told = capsys.readouterr().err
        assert named in told
        assert len(told.strip().splitlines()) == 1
    assert entry(["image", "ingest", str(tmp_path), "-c", "bad", "-w", workspace]) == 1      # reported; nothing else there
    assert "bad.png" in capsys.readouterr().err
