"""Models of pictures and texts in this process: loaded as the hub keeps them, trained on a few steps, exported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

import madang
from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound
from madang.cli.main import entry
from madang.models.pictures import PictureSettings, prepared
from madang.models.providers.clip_pair import load
from madang.models.providers.onnx_clip import OnnxClip
from madang.multimodal.clip import model
from madang.multimodal.clip.batches import SILENT, SLOTS, Batch, Scenes, cells, group_of, slots
from madang.multimodal.clip.captions import Captions
from madang.multimodal.clip.export import export
from madang.multimodal.clip.loss import contrastive, sigmoid
from madang.multimodal.clip.train import Recipe, train
from madang.multimodal.pairs import read_pairs
from madang.multimodal.scenes import corpus, paint, prompt, scene
from madang.multimodal.scenes.dataset import write
from madang.multimodal.training import CHECKPOINT, HISTORY
from tests.multimodal.seeing import coded, noise

SMALL = {"side": 32, "patch": 8, "width": 64, "layers": 1, "text_layers": 1, "dim": 24, "vocabulary": 700}
PICTURES = [np.asarray(noise(at, 40 + 7 * at)) for at in range(5)]
TEXTS = ["a red circle", "밤의 바다, 왼쪽에 작은 별", "", "something that was never said before " * 20]


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    return model.small(tmp_path / "tiny", **SMALL)     # type: ignore[arg-type]


# --- loading ---

@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_vectors_are_those_of_the_library(kind: str, request: pytest.FixtureRequest) -> None:
    """Our preparation and our calls beside the library's own, picture by picture and text by text."""
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    folder = request.getfixturevalue(f"{kind}_folder")
    pair, theirs, processor = load(str(folder)), AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    seen, read = pair.embed_images(PICTURES), pair.embed(TEXTS[:2])
    with torch.no_grad():
        for mine, picture in zip(seen, PICTURES, strict=True):
            found = theirs.get_image_features(**processor(images=Image.fromarray(picture), return_tensors="pt"))
            found = getattr(found, "pooler_output", found)[0]
            assert float(found @ torch.from_numpy(mine) / found.norm()) == pytest.approx(1, abs=2e-4)
        for mine, text in zip(read, TEXTS, strict=False):
            how = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {}
            said = processor.tokenizer([text], return_tensors="pt", truncation=True, **how)
            if kind == "siglip":                # which was trained to read the padding
                said = {"input_ids": said["input_ids"]}
            found = theirs.get_text_features(**said)
            found = getattr(found, "pooler_output", found)[0]
            assert float(found @ torch.from_numpy(mine) / found.norm()) == pytest.approx(1, abs=1e-5)
    assert pair.dim == seen.shape[1] == read.shape[1]
    assert pair.embed_images([]).shape == pair.embed([]).shape == (0, pair.dim)


def test_pictures_are_prepared_as_the_library_does(clip_folder: Path) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    for size, crop in ((32, 32), (40, 32), (224, 224)):
        processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": crop, "width": crop})
        settings = PictureSettings.of(processor.to_dict())
        for picture in (*PICTURES, np.asarray(noise(9).resize((321, 214))), np.asarray(noise(9).resize((60, 200)))):
            theirs = np.asarray(processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0])
            assert np.abs(theirs - prepared([picture], settings)[0]).max() < 0.02      # a step of 255 is 0.015


def test_what_is_no_such_model_is_told(tmp_path: Path, embedder_folder: Path, clip_folder: Path) -> None:
    with pytest.raises(InvalidInput, match="not a CLIP or SigLIP"):
        load(str(embedder_folder))
    with pytest.raises(NotFound, match="nowhere"):
        load(str(tmp_path / "nowhere"))
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in clip_folder.glob("*.json"):
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(Corrupt, match="cannot be loaded"):
        load(str(broken))
    found = load_file(clip_folder / "model.safetensors")
    del found["visual_projection.weight"]
    save_file(found, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(Corrupt, match=r"it has no visual_projection\.weight"):        # not made up
        load(str(broken))


def test_a_collection_is_made_and_searched_with_a_model_of_a_folder(tmp_path: Path, clip_folder: Path,
                                                                    siglip_folder: Path) -> None:
    write(tmp_path / "scenes", 12, side=64)
    for folder in (clip_folder, siglip_folder):
        with madang.open(tmp_path / f"ws-{folder.name}") as ws:
            report = ws.ingest_images(tmp_path / "scenes", model=f"transformers/{folder}")
            assert (report.added, report.failed) == (12, 0)
            path = tmp_path / "scenes" / "0000003.png"
            assert ws.search_images(path, top_k=1, duplicates=True)[0].id == str(path)
            assert len(ws.search_images("a red star", top_k=5, duplicates=True)) == 5
            with pytest.raises(Conflict, match="not bundled/clip"):
                ws.ingest_images(tmp_path / "scenes", model="bundled/clip")


# --- what training sees ---

def test_slots_and_cells_say_what_the_scenes_are() -> None:
    made = group_of(3)
    found, patches = slots(made), cells(made, 8)
    assert found.shape == (8, len(SLOTS))
    for row, each in enumerate(made):
        assert found[row, 2] == len(each.things) - 1
        assert (found[row, 3:] > 0).sum() == 3 * len(each.things)
        kinds = {tuple(patch) for patch in patches[row].tolist() if any(patch)}
        assert kinds == {tuple(found[row, 3 + 3 * at:6 + 3 * at].tolist()) for at in range(9)
                         if found[row, 3 + 3 * at]}


def test_batches_are_the_same_for_the_same_step_and_tell_the_truth(tmp_path: Path) -> None:
    source = Scenes(tmp_path, 12, 32, 8, processes=1)
    one, other = source.batch(5, 32), source.batch(5, 32)
    assert one.texts == other.texts
    assert (one.images == other.images).all()
    assert one.texts != source.batch(6, 32).texts
    assert one.true.diagonal().all()
    assert one.said is not None
    assert one.slots is not None
    heard = one.said != SILENT
    assert (one.said[heard] == one.slots[heard]).all()
    assert 0 < (~heard).any(1).mean() < 1            # some prompts say everything, some do not


def test_the_loss_is_the_papers_where_each_text_has_one_picture() -> None:
    torch.manual_seed(0)
    pictures, texts = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    scores = 7.0 * texts @ pictures.T
    ours = contrastive(pictures, texts, torch.eye(6, dtype=torch.bool), torch.tensor(7.0))
    paper = (cross_entropy(scores, torch.arange(6)) + cross_entropy(scores.T, torch.arange(6))) / 2
    assert float(ours) == pytest.approx(float(paper), rel=1e-6)


def test_a_text_that_is_true_of_several_pictures_wants_them_equally() -> None:
    pictures = torch.nn.functional.normalize(torch.randn(4, 8), dim=1).requires_grad_()
    true = torch.eye(4, dtype=torch.bool)
    true[0, 1] = True
    text = torch.nn.functional.normalize(pictures[0] + pictures[1], dim=0).detach()
    texts = torch.stack([text, *pictures.detach()[1:]])
    even = contrastive(pictures, texts, true, torch.tensor(5.0))
    assert torch.isfinite(even)
    alone = contrastive(pictures, texts, torch.eye(4, dtype=torch.bool), torch.tensor(5.0))
    assert float(even) != pytest.approx(float(alone))


def test_siglips_loss_is_low_where_truth_is_known() -> None:
    units = torch.eye(4)
    true = torch.eye(4, dtype=torch.bool)
    assert float(sigmoid(units, units, true, torch.tensor(20.0), torch.tensor(-10.0))) < 0.01
    assert float(sigmoid(units, units, ~true, torch.tensor(20.0), torch.tensor(-10.0))) > 10


# --- training ---

class Few:
    """Four pictures with their prompts, again and again."""

    def __init__(self, side: int) -> None:
        self.images = np.stack([np.asarray(paint(scene(seed), seed, side=side)) for seed in range(4)])
        self.texts = [prompt(scene(seed), seed) for seed in range(4)]

    def batch(self, step: int, size: int) -> Batch:
        return Batch(self.images, self.texts, np.eye(4, dtype=bool))


def test_a_few_steps_learn_a_few_pictures(tiny: Any, tmp_path: Path) -> None:
    source = Few(32)
    recipe = Recipe(steps=60, batch=4, learning_rate=2e-3, warmup=5, bfloat16=False)
    told: list[float] = []
    train(tiny, source, recipe, tmp_path / "t", tell=lambda now: told.append(now.loss),
          look=lambda pair, step: {"score": step / 60}, every=20)
    assert np.mean(told[-5:]) < 0.3 * np.mean(told[:5])
    assert (tiny.embed(source.texts) @ tiny.embed_images(list(source.images)).T).argmax(1).tolist() == [0, 1, 2, 3]
    lines = [json.loads(line) for line in (tmp_path / "t" / HISTORY).read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]


def test_it_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    recipe = Recipe(steps=12, batch=16, warmup=2, bfloat16=False, threads=1)
    source = Scenes(tmp_path, 8, 32, 8, processes=1)

    def begun() -> Any:
        return model.small(tmp_path / "m", **SMALL)    # type: ignore[arg-type]

    whole = train(begun(), source, recipe, tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(now: Any) -> None:
        if now.step == 7:
            raise Stop

    with pytest.raises(Stop):
        train(begun(), source, recipe, tmp_path / "cut", keep_s=0, tell=stop)
    cut = train(begun(), source, recipe, tmp_path / "cut")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, cut.model.state_dict()[name]), name


def test_another_recipe_and_a_damaged_checkpoint_are_refused(tiny: Any, tmp_path: Path) -> None:
    train(tiny, Few(32), Recipe(steps=2, batch=4), tmp_path / "t")
    with pytest.raises(Conflict, match=r"batch 4 \(now 8\)"):
        train(tiny, Few(32), Recipe(steps=2, batch=8), tmp_path / "t")
    (tmp_path / "t" / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(Corrupt, match="Delete it"):
        train(tiny, Few(32), Recipe(steps=2, batch=4), tmp_path / "t")


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"warmup": -1}, {"threads": -1}])
def test_recipes_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Recipe(**wrong)


def test_the_command_survives_a_kill_and_ends_with_what_it_promises(tmp_path: Path, clip_folder: Path) -> None:
    write(tmp_path / "scenes", 60, side=32)
    command = [sys.executable, "-m", "madang", "train", "clip", str(tmp_path / "out"), "--from", str(clip_folder), "--data",
               str(tmp_path / "scenes"), "--steps", "120", "--batch", "16", "--every", "20", "--threads", "1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    training = tmp_path / "out" / "training"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (training / CHECKPOINT).exists():
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = (training / HISTORY).read_text().splitlines()
    assert len(before) < 6, "it was over before it was killed"
    other = [each if each != "120" else "40" for each in command]
    refused = subprocess.run(other, capture_output=True, text=True, check=False)
    assert "steps 120 (now 40)" in refused.stderr
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["steps"] == 120
    assert set(found["scores"]) == {"r@1", "r@5"}
    after = (training / HISTORY).read_text().splitlines()
    assert after[0] == before[0]                     # with its seconds: that part was not trained again
    assert [json.loads(line)["step"] for line in after] == [20, 40, 60, 80, 100, 120]
    for name in ("curves.html", "sheet.png", CHECKPOINT):
        assert (tmp_path / "out" / "training" / name).stat().st_size > 1000
    assert load(str(tmp_path / "out")).dim == OnnxClip(tmp_path / "out").dim


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_tuning_with_low_rank_updates_changes_little_and_saves_a_whole_model(
        kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    for at in range(40):
        place = tmp_path / "classes" / ("light" if at % 2 else "dark")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at}.png").write_bytes(coded(noise(at, 40, (250, 250, 250) if at % 2 else (5, 5, 5))))
    (tmp_path / "classes" / "dark" / "broken.png").write_text("broken")
    code = entry(["train", "clip", str(tmp_path / "out"), "--from", str(folder), "--data", str(tmp_path / "classes"), "--lora",
                  "2", "--steps", "12", "--batch", "8", "--learning-rate", "0.01", "--json"])
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (code, [each["name"] for each in found["broken"]]) == (1, ["dark/broken.png"])
    assert "r@1" in found["scores"]
    before, after = load(str(folder)).model.state_dict(), load(str(tmp_path / "out")).model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("q_proj" in name or "v_proj" in name for name in changed)


def test_low_rank_updates_need_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["train", "clip", str(tmp_path / "out"), "--lora", "4"]) == 1
    assert "--from" in capsys.readouterr().err


def test_pictures_with_one_caption_are_as_good_for_it_as_each_other(tmp_path: Path) -> None:
    for at in range(9):
        place = tmp_path / "data" / "abc"[at % 3]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{at}.png").write_bytes(coded(noise(at)))
    made = Captions(read_pairs(tmp_path / "data"), tmp_path / "pool", 16)
    batch = made.batch(0, 9)
    assert (batch.true == np.array([[one == other for other in batch.texts] for one in batch.texts])).all()
    seen = [text for step in range(3) for text in made.batch(step, 6).texts]       # 18: each of nine twice
    assert {text: seen.count(text) for text in "abc"} == {"a": 6, "b": 6, "c": 6}


# --- ONNX ---

@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_graphs_say_what_the_model_says(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pair = load(str(request.getfixturevalue(f"{kind}_folder")))
    export(pair, tmp_path)
    exact, small = OnnxClip(tmp_path, precision="fp32"), OnnxClip(tmp_path)
    texts = TEXTS if kind == "clip" else ["the bicycle", "is kept in the cellar"]
    seen, read = pair.embed_images(PICTURES), pair.embed(texts)
    assert np.allclose(exact.embed_images(PICTURES), seen, atol=2e-4)
    assert np.allclose(exact.embed(texts), read, atol=1e-4)
    assert (small.embed_images(PICTURES) * seen).sum(1).min() > 0.98
    assert (small.embed(texts) * read).sum(1).min() > 0.98
    assert exact.scale == pytest.approx(pair.scale)
    assert exact.signature.partition("@")[0] == tmp_path.name


def test_the_tokenizer_is_read_by_the_library_and_says_any_text(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    model.small(tmp_path, **SMALL)     # type: ignore[arg-type]
    before = (tmp_path / "tokenizer.json").read_bytes()
    model.small(tmp_path, **SMALL)     # type: ignore[arg-type]
    assert (tmp_path / "tokenizer.json").read_bytes() == before        # else no training could go on
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for text in (*list(corpus(20)), "emoji 🦊, 漢字, العربية"):
        ids = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
        assert ids.count(tokenizer.eos_token_id) == 1
        back = tokenizer.decode(ids, skip_special_tokens=True)
        assert back.replace(" ", "") == text.lower().replace(" ", "")
