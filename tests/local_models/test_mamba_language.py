"""Small language models of bytes: what they are, how they are kept, measured and trained, and their charts."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
import sysconfig
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM, Mamba2ForCausalLM

from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound
from madang.cli.main import entry
from madang.cli.train import train
from madang.index.lab_chart import HEIGHT, WIDTH
from madang.multimodal import curves, training
from madang.multimodal.mamba import job, language
from madang.multimodal.mamba.dual import DualBlock
from madang.multimodal.mamba.language import Cost, Kind
from madang.multimodal.mamba.plot import Measured, svg
from madang.multimodal.training import CHECKPOINT, HISTORY, Told

KOREAN = "밤의 바다, 왼쪽에 작은 별\n"
CLASSES = {"mamba": Mamba2ForCausalLM, "transformer": LlamaForCausalLM}


@pytest.fixture(scope="module", params=language.KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param      # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def model(kind: Kind) -> Any:
    return language.small(kind, width=32, layers=2, states=8).eval()


def read(model: Any, found: Tensor) -> Tensor:
    """Logits (length, ids) of one window, all at once and without a cache."""
    with torch.no_grad():
        return model(input_ids=found[None], use_cache=False).logits[0]      # type: ignore[no-any-return]


# --- sizes ---

@pytest.mark.parametrize(("width", "layers"), [(32, 1), (32, 4), (64, 2), (64, 7), (96, 3), (128, 5), (160, 6)])
def test_a_transformer_has_as_many_parameters_as_the_mamba_beside_it(width: int, layers: int) -> None:
    sizes = []
    for each in language.KINDS:
        made = language.small(each, width=width, layers=layers)
        assert type(made) is CLASSES[each]
        assert made.config.hidden_size == width
        sizes.append(sum({id(weights): weights.numel() for weights in made.parameters()}.values()))
        assert language.size(made) == sizes[-1]
    assert abs(sizes[0] - sizes[1]) <= 0.01 * sizes[0]


def test_both_are_as_large_as_is_said(tmp_path: Path) -> None:
    mamba, transformer = (language.small(each) for each in language.KINDS)
    assert language.size(mamba) == pytest.approx(400_000, rel=0.05)
    assert len(transformer.model.layers) == len(mamba.backbone.layers) * 3 // 5
    wish = job.Wish(tmp_path)                        # a training makes the same, asked for in any way
    assert (wish.width, wish.layers) == (mamba.config.hidden_size, mamba.config.num_hidden_layers)
    told = {option.name: option.default for option in train.commands["mamba"].params}
    assert (told["width"], told["layers"], told["every"], told["kind"]) == (wish.width, wish.layers, wish.every, wish.kind)
    assert {name: told[name] for name in ("steps", "batch", "length", "learning_rate", "seed", "threads")} == {
        name: getattr(wish.recipe, name) for name in ("steps", "batch", "length", "learning_rate", "seed", "threads")}


@pytest.mark.parametrize("width", [40, 31, 0, -32])
def test_a_width_that_heads_do_not_fill_is_refused(kind: Kind, width: int) -> None:
    with pytest.raises(InvalidInput, match=f"^width: a multiple of 32, not {width}"):
        language.small(kind, width=width)


def test_the_same_seed_makes_the_same_weights(kind: Kind) -> None:
    one, same, other = (language.small(kind, width=32, layers=2, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


# --- the quick block ---

def test_a_quick_model_says_what_the_plain_one_says() -> None:
    plain, made = (language.small("mamba", width=64, layers=3, seed=5).eval() for _ in range(2))
    quick = language.quick(made)
    assert quick is made
    blocks = [layer.mixer for layer in made.backbone.layers]
    assert [type(each) for each in blocks] == [DualBlock] * 3
    found = language.ids(KOREAN.encode() * 3)
    assert len(found) % 32
    assert torch.allclose(read(quick, found), read(plain, found), atol=1e-4)
    assert {name: value.shape for name, value in quick.state_dict().items()} == {
        name: value.shape for name, value in plain.state_dict().items()}
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in quick.state_dict().items())
    plain.load_state_dict(quick.state_dict())
    assert language.quick(made) is made
    assert all(layer.mixer is block for layer, block in zip(made.backbone.layers, blocks, strict=True))


def test_a_transformer_is_left_as_it_is() -> None:
    made = language.small("transformer", width=32, layers=2)
    before = list(made.modules())
    assert language.quick(made) is made
    assert all(one is other for one, other in zip(made.modules(), before, strict=True))


# --- bytes and ids ---

@given(st.binary(max_size=200))
def test_ids_are_bytes_and_three_more(text: bytes) -> None:
    found = language.ids(text)
    assert (found.dtype, found.tolist()) == (torch.int64, [byte + 3 for byte in text])
    assert language.told(found) == text


def test_what_is_no_byte_is_not_told() -> None:
    assert language.told(torch.tensor([1, 100, 0, 101, 2, 3, 258])) == b"ab\0\xff"


# --- folders ---

@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "language"
    language.save(model, made)
    return made


def test_saved_and_loaded_it_says_the_same(kind: Kind, model: Any, folder: Path) -> None:
    again = language.load(folder)
    assert type(again) is CLASSES[kind]
    assert not again.training
    found = language.ids(b"import os\n")
    assert torch.equal(read(again, found), read(model, found))
    assert language.size(again) == language.size(model)


@pytest.mark.parametrize("text", ["def f(x):\n\treturn x", KOREAN, "🦊 é \x7f"])
def test_the_tokenizer_in_the_folder_is_one_of_bytes(folder: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert found == language.ids(text.encode()).tolist()
    assert tokenizer.decode(found) == text
    assert len(tokenizer) == 259
    assert tokenizer.eos_token_id == language.END


def _without_a_tensor(folder: Path) -> None:
    """Which the library would make up, by chance."""
    path = folder / "model.safetensors"
    found = load_file(path)
    del found[next(name for name in found if name.endswith("norm.weight"))]
    save_file(found, path, {"format": "pt"})


def _with_a_tensor_of_another_size(folder: Path) -> None:
    path = folder / "model.safetensors"
    found = load_file(path)
    name = next(name for name in found if name.endswith("norm.weight"))
    save_file({**found, name: found[name][:-1].contiguous()}, path, {"format": "pt"})


@pytest.mark.parametrize("damage", [
    _without_a_tensor, _with_a_tensor_of_another_size,
    lambda folder: (folder / "model.safetensors").unlink(),
    lambda folder: os.truncate(folder / "model.safetensors", 5000),
    lambda folder: (folder / "model.safetensors").write_bytes(b"no"),
    lambda folder: (folder / "config.json").write_text("{"),
    lambda folder: (folder / "config.json").write_text("[]"),
    shutil.rmtree,
], ids=["no tensor", "other size", "no weights", "cut", "no safetensors", "no JSON", "a list", "nothing"])
def test_a_damaged_folder_is_told(folder: Path, tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    damage(broken)
    with pytest.raises(Corrupt, match="broken cannot be loaded"):
        language.load(broken)


# --- what is measured ---

class Says:
    """In place of a model: logits by a rule for what it reads."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        self.rule = rule

    def __call__(self, *, input_ids: Tensor, use_cache: bool) -> Any:
        assert not use_cache
        return SimpleNamespace(logits=self.rule(input_ids))


def _nothing(found: Tensor) -> Tensor:
    return torch.zeros(*found.shape, 259)


def _one_more(found: Tensor) -> Tensor:
    """It is sure that each byte is the one before and one."""
    return 100.0 * torch.nn.functional.one_hot((found + 1).clamp(max=258), 259)


def test_surprise_is_minus_the_logarithm_of_the_chance(model: Any) -> None:
    windows = torch.stack([language.ids(text) for text in (b"import os\n", b"def f(x):\n", KOREAN.encode()[:10])])
    found = language.surprise(model, windows)
    assert found.shape == (3, 9)
    for row, window in zip(found, windows, strict=True):
        logits = read(model, window).double().numpy()
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        assert row.numpy() == pytest.approx([-math.log2(chances[at, window[at + 1]]) for at in range(9)], abs=1e-4)
    assert not found.requires_grad


def test_who_knows_nothing_is_surprised_by_all_ids_alike_and_who_knows_all_by_none() -> None:
    windows = torch.arange(3, 203).view(4, 50)
    assert language.surprise(Says(_nothing), windows).numpy() == pytest.approx(np.full((4, 49), math.log2(259)), abs=1e-5)
    assert language.surprise(Says(_one_more), windows).abs().max() < 1e-5
    assert language.surprise(Says(_one_more), windows.flip(1)).min() > 100          # it is of the next byte, not of the last


class Watched:
    """A model, and what it was asked and said."""

    def __init__(self, model: Any) -> None:
        self.model, self.said = model, []       # type: Any, list[tuple[int, Tensor]]

    def __call__(self, **given: Any) -> Any:
        found = self.model(**given)
        self.said.append((given["input_ids"].shape[1], found.logits[0, -1]))
        return found


def test_the_cost_is_of_bytes_after_the_context(model: Any) -> None:
    """Each token that is timed is read with all before it in mind: it says what is said of the whole, read anew."""
    context, watched = language.ids(b"import os, sys, json, collections\n"), Watched(model)
    found = language.cost(watched, context, repeats=3)
    assert (found.context, found.seconds > 0) == (34, True)
    assert [length for length, _ in watched.said] == [34, 1, 1, 1]
    for more, (_, said) in enumerate(watched.said):
        whole = read(model, torch.cat([context, context[-1:].repeat(more)]))
        assert torch.allclose(said, whole[-1], atol=1e-5), more
    assert not torch.allclose(watched.said[1][1], read(model, context[-1:])[-1], atol=1e-4)


def test_a_mamba_remembers_as_much_of_any_context_and_a_transformer_more_of_a_longer_one() -> None:
    width, layers, states, heads = 64, 5, 8, 4
    lengths = (1, 5, 33, 100)
    text = language.ids(b"x" * 100)
    mamba = language.small("mamba", width=width, layers=layers, states=states).eval()
    # For each head its state, and of x, B and C as many tokens as the convolution is long.
    wanted = 4 * layers * (2 * width * states + (2 * width + 2 * states) * 4)
    assert mamba.config.num_heads == heads
    assert [language.cost(mamba, text[:at], repeats=2).remembered for at in lengths] == [wanted] * 4
    transformer = language.small("transformer", width=width, layers=layers, states=states).eval()
    found = [language.cost(transformer, text[:at], repeats=2).remembered for at in lengths]
    assert found == [2 * 3 * width * 4 * at for at in lengths]           # a key and a value in each of three layers
    assert language.cost(transformer, text[:33], repeats=7).remembered == found[2]


# --- what is written ---

def test_a_text_is_continued_the_same_for_the_same_seed(model: Any) -> None:
    torch.manual_seed(77)
    before = torch.get_rng_state()
    found = language.continued(model, b"import ", 12, seed=3)
    assert torch.equal(torch.get_rng_state(), before)        # the chance of others is left alone
    assert found.startswith(b"import ")
    assert len(found) <= 7 + 12
    torch.manual_seed(78)
    assert language.continued(model, b"import ", 12, seed=3) == found
    assert len({language.continued(model, b"import ", 12, seed=seed) for seed in range(4)}) > 1


def test_without_chance_it_writes_what_is_most_likely(model: Any) -> None:
    now = language.ids(KOREAN.encode())
    for _ in range(6):
        most = int(read(model, now)[-1].argmax())
        if most == language.END:
            break
        now = torch.cat([now, torch.tensor([most])])
    assert language.continued(model, KOREAN.encode(), 6, temperature=0) == language.told(now)
    assert language.continued(model, KOREAN.encode(), 6, temperature=0, seed=9) == language.told(now)


def test_it_begins_by_itself(model: Any) -> None:
    assert len(language.continued(model, b"", 8)) <= 8


# --- what is read ---

def files(folder: Path, count: int = 40) -> Path:
    for at in range(count):
        path = folder / f"part {at % 3}" / f"{at:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"file {at}\n{KOREAN}" * 12, encoding="utf-8")
    return folder


def test_files_are_held_out_whole(tmp_path: Path) -> None:
    learn, held, broken = job.texts(str(files(tmp_path)))
    assert broken == []
    assert learn.dtype == held.dtype == np.uint8
    one, other = (each.tobytes().split(b"\0") for each in (learn, held))
    assert (len(one), len(other)) == (38, 2)                         # a twentieth
    assert sorted(one + other) == sorted(path.read_bytes() for path in tmp_path.rglob("*.txt"))
    again = job.texts(str(tmp_path))
    assert all(np.array_equal(*each) for each in zip((learn, held), again[:2], strict=True))


def test_one_of_two_files_is_held_out(tmp_path: Path) -> None:
    learn, held, _ = job.texts(str(files(tmp_path, 2)))
    assert {learn.tobytes()[:6], held.tobytes()[:6]} == {b"file 0", b"file 1"}


@pytest.mark.parametrize("inside", [False, True])
def test_one_file_is_split_by_place(tmp_path: Path, inside: bool) -> None:
    text = "".join(f"line {at}\n" for at in range(200)).encode()
    (tmp_path / "one.txt").write_bytes(text)
    learn, held, broken = job.texts(str(tmp_path if inside else tmp_path / "one.txt"))
    assert learn.tobytes() + held.tobytes() == text
    assert len(held) == pytest.approx(0.05 * len(text), abs=1)
    assert broken == []


def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_MOST", 1000)
    files(tmp_path, 6)
    (tmp_path / "part 0" / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "large.txt").write_text("x" * 1001)
    (tmp_path / "fits.txt").write_text("y" * 1000)
    (tmp_path / "empty.txt").write_bytes(b"")
    learn, held, broken = job.texts(str(tmp_path))
    assert [name for name, _ in broken] == ["large.txt", "part 0/latin.txt"]
    assert "larger than" in broken[0][1]
    assert "utf-8" in broken[1][1]
    parts = learn.tobytes().split(b"\0") + held.tobytes().split(b"\0")
    assert len(parts) == 7
    assert b"y" * 1000 in parts


def test_a_zero_byte_in_a_file_is_not_the_end_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a\0b")
    (tmp_path / "b.txt").write_bytes(b"a\0b")
    assert [each.tobytes() for each in job.texts(str(tmp_path))[:2]] == [b"a b", b"a b"]


def test_what_is_hidden_is_not_read(tmp_path: Path) -> None:
    """A folder of notes may be a repository."""
    files(tmp_path, 4)
    (tmp_path / ".git" / "objects").mkdir(parents=True)
    (tmp_path / ".git" / "objects" / "7f").write_bytes(b"\xff\xfe")
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (tmp_path / ".hidden").write_text("hidden")
    learn, held, broken = job.texts(str(tmp_path))
    assert broken == []
    for each in (learn, held):
        assert b"refs" not in each.tobytes()
        assert b"hidden" not in each.tobytes()
    elsewhere = tmp_path / ".notes"                 # one that is asked for is read
    assert len(job.texts(str(files(elsewhere, 2)))[0])


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no file or folder"):
        job.texts(str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="there is no text in"):
        job.texts(str(tmp_path))
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "zeros.txt").write_bytes(b"\0\0")
    for each in (tmp_path, tmp_path / "empty.txt"):
        with pytest.raises(InvalidInput, match="there is no text in"):
            job.texts(str(each))


def test_the_standard_library_is_read_without_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name for name, _ in job._files("python")}
    assert {"json/decoder.py", "argparse.py", "unittest/mock.py"} <= found
    assert all(name.endswith(".py") for name in found)
    away = {"test", "tests", "idle_test", "site-packages"}
    assert not any(away & set(name.split("/")) for name in found)
    for name in ("json/tests", "test", "unittest/test", "site-packages/other"):
        (tmp_path / "lib" / name).mkdir(parents=True)
    for place, _, _ in os.walk(tmp_path / "lib"):
        (Path(place) / "a.py").write_text(f"# {Path(place).name}\n")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path / "lib")})
    learn, held, _ = job.texts("python")
    assert set(learn.tobytes().split(b"\0") + held.tobytes().split(b"\0")) == {b"# lib\n", b"# json\n", b"# unittest\n"}


# --- windows ---

@given(st.integers(2, 60), st.integers(0, 80), st.integers(1, 9))
def test_windows_lie_in_the_text_at_equal_distances(length: int, more: int, count: int) -> None:
    text = np.arange(length + more, dtype=np.uint8)
    found = job.windows(text, count, length)
    assert found.shape == (count, length)
    as_bytes = torch.where(found == language.END, 0, found - 3)
    assert torch.equal(as_bytes, as_bytes[:, :1] + torch.arange(length))           # each is a piece of it
    starts = as_bytes[:, 0].tolist()
    assert (starts[0], starts[-1]) == (0, more if count > 1 else 0)
    assert np.ptp(np.diff(starts)) <= 1 if count > 2 else True


def test_between_files_is_an_end() -> None:
    assert job.windows(np.frombuffer(b"a\0b", np.uint8), 1, 3).tolist() == [[100, language.END, 101]]


# --- training ---

def recipe(**more: Any) -> job.Recipe:
    return job.Recipe(**{"steps": 4, "batch": 2, "warmup": 1, "threads": 1, "length": 16, **more})


def test_each_byte_is_foretold_from_those_before_it() -> None:
    text = np.arange(1, 201, dtype=np.uint8)
    for rule, wanted in ((_nothing, math.log(259)), (_one_more, 0.0)):
        assert float(job.Reading(Says(rule), text, recipe(batch=16)).loss(0)) == pytest.approx(wanted, abs=1e-4)
    assert float(job.Reading(Says(_one_more), text[::-1].copy(), recipe()).loss(0)) > 50
    assert float(job.Reading(Says(_one_more), text[:17], recipe()).loss(0)) == pytest.approx(0, abs=1e-4)     # there is one window only


def test_the_same_number_gives_the_same_windows_and_all_of_the_text_is_seen() -> None:
    seen: list[Tensor] = []

    def rule(found: Tensor) -> Tensor:
        seen.append(found)
        return _nothing(found)

    task = job.Reading(Says(rule), np.arange(1, 41, dtype=np.uint8), recipe())
    for step in (5, 5, *range(200)):
        task.loss(step)
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert {int(row[0]) - 4 for each in seen for row in each} == set(range(40 - 16))
    other = job.Reading(Says(rule), task.text, recipe(seed=1))
    other.loss(5)
    assert not torch.equal(seen[0], seen[-1])


def test_a_repeated_text_is_soon_known(kind: Kind, tmp_path: Path) -> None:
    text = np.frombuffer(KOREAN.encode() * 40, np.uint8)
    how = recipe(steps=60, batch=4, length=48, learning_rate=0.01, warmup=5)
    made = language.quick(language.small(kind, width=32, layers=2, states=8))
    told: list[float] = []
    training.train(job.Reading(made, text, how), how, tmp_path, tell=lambda now: told.append(now.loss))
    assert told[0] == pytest.approx(math.log(259), abs=1.0)
    assert np.mean(told[-5:]) < 0.3 * told[0]


def test_windows_of_a_few_bytes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="length: at least 8, not 7"):
        job.Recipe(length=7)
    with pytest.raises(InvalidInput, match="batch"):
        job.Recipe(batch=1)


@pytest.fixture
def wish(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> job.Wish:
    monkeypatch.setattr(job, "LOOKED_AT", 3)
    return job.Wish(tmp_path / "whole", kind, str(files(tmp_path / "notes")), recipe(), width=32, layers=2, every=2)


def test_a_small_one_from_nothing(wish: job.Wish) -> None:
    said: list[str] = []
    steps: list[int] = []
    (Path(wish.data) / "broken.txt").write_bytes(b"\xff")
    found = job.run(wish, tell=lambda now: steps.append(now.step), say=said.append)
    assert steps == [1, 2, 3, 4]
    assert [name for name, _ in found.broken] == ["broken.txt"]
    assert [re.sub(r"\d[\d,]*\b", "N", line) for line in said] == [
        "reading N bytes, and N that are held out", "training: N parameters, N steps of N x N", "saving"]
    history = [json.loads(line) for line in (wish.out / "training" / HISTORY).read_text().splitlines()]
    assert [line["step"] for line in history] == [2, 4]
    assert "bits per byte" in (wish.out / "training" / "curves.html").read_text()
    made = language.load(wish.out)
    assert type(made) is CLASSES[wish.kind]            # with the library's own blocks
    held = job.texts(wish.data)[1]
    bits = float(language.surprise(made, job.windows(held, 3, 16)).mean())
    assert found.scores == {"bits per byte": history[-1]["bits per byte"]}
    assert found.scores["bits per byte"] == pytest.approx(bits, abs=1e-4)
    assert AutoTokenizer.from_pretrained(wish.out)("a", add_special_tokens=False)["input_ids"] == [100]
    weights = (wish.out / "model.safetensors").read_bytes()
    steps.clear()
    again = job.run(wish, tell=lambda now: steps.append(now.step))          # it is done already
    assert (steps, again.scores) == ([], found.scores)
    assert (wish.out / "model.safetensors").read_bytes() == weights
    with pytest.raises(Conflict, match=r"width 32 \(now 64\)"):
        job.run(replace(wish, width=64))
    with pytest.raises(Conflict, match=r"length 16 \(now 17\)"):
        job.run(replace(wish, recipe=recipe(length=17)))


def test_the_training_goes_on_exactly_where_it_was(wish: job.Wish, tmp_path: Path) -> None:
    wish = replace(wish, every=1)
    job.run(wish)
    cut = replace(wish, out=tmp_path / "cut")
    for stop in (2, 3):
        def tell(now: Told, stop: int = stop) -> None:
            if now.step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            job.run(cut, tell=tell)
        assert not (cut.out / "config.json").exists()
    steps: list[int] = []
    torch.rand(7)                                   # whatever others do with chance meanwhile
    job.run(cut, tell=lambda now: steps.append(now.step))
    assert steps == [4]
    assert (cut.out / "model.safetensors").read_bytes() == (wish.out / "model.safetensors").read_bytes()
    told = [[{**json.loads(line), "seconds": 0} for line in (out / "training" / HISTORY).read_text().splitlines()]
            for out in (wish.out, cut.out)]
    assert told[0] == told[1]


def test_too_little_text_is_told_with_what_to_do(wish: job.Wish, tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("x" * 100)                  # 95 to learn from, 5 to hold out
    with pytest.raises(InvalidInput, match=r"has 5 bytes to hold out, fewer than a window of 16") as told:
        job.run(replace(wish, data=str(tmp_path / "few.txt")))
    assert "--length" in told.value.remedy
    with pytest.raises(InvalidInput, match=r"has 95 bytes to learn from, fewer than a window of 95") as told:
        job.run(replace(wish, data=str(tmp_path / "few.txt"), recipe=recipe(length=95)))
    assert not (wish.out / "config.json").exists()


# --- the command line ---

def test_training_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path / "notes", 10)
    command = ["train", "mamba", "out", "--data", "notes", "--steps", "2", "--batch", "2", "--length", "16", "--width", "32",
               "--layers", "1", "--seed", "4", "--every", "1", "--learning-rate", "0.01", "--threads", "1"]
    assert entry([*command, "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found.keys() == {"folder", "scores", "broken"}
    assert (found["folder"], found["broken"], found["scores"].keys()) == ("out", [], {"bits per byte"})
    assert told.err == ""
    kept = torch.load(tmp_path / "out" / "training" / CHECKPOINT, weights_only=True)["recipe"]
    wanted = {"steps": 2, "batch": 2, "length": 16, "width": 32, "layers": 1, "seed": 4, "learning_rate": 0.01, "kind": "mamba",
              "data": "notes"}
    assert {name: kept[name] for name in wanted} == wanted
    assert type(language.load(tmp_path / "out")) is Mamba2ForCausalLM
    (tmp_path / "notes" / "broken.txt").write_bytes(b"\xff")
    command[2] = "other"
    assert entry([*command, "--kind", "transformer"]) == 1                   # something could not be read
    told = capsys.readouterr()
    assert "error: broken.txt: " in told.err
    assert "bits per byte" in told.out
    assert "other: the model." in told.out
    assert type(language.load(tmp_path / "other")) is LlamaForCausalLM
    for wrong, said in ((["--width", "40"], "a multiple of 32, not 40"), (["--data", "none"], "there is no file or folder none"),
                        (["--length", "7"], "--length"), (["--kind", "lstm"], "--kind"), (["--batch", "1"], "--batch"),
                        (["--length", "5000"], "or a smaller --length"), (["--steps", "3"], "steps 2 (now 3)")):
        assert entry([*command, "--kind", "transformer", *wrong]) != 0
        assert said in capsys.readouterr().err


def test_the_help_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry(["train", "--help"]) == 0
    assert "mamba" in capsys.readouterr().out
    assert entry(["train", "mamba", "--help"]) == 0
    found = capsys.readouterr().out
    for option in ("--data", "--kind [mamba|transformer]", "--length", "--width", "--layers", "--every", "--seed", "--threads", "--json"):
        assert option in found
    assert "--groups" not in found                         # no scenes are painted
    for other in ("clip", "llava", "unclip"):
        assert entry(["train", other, "--help"]) == 0
        assert "--groups" in capsys.readouterr().out


# --- charts ---

def measured(start: int = 2, end: int = 8192) -> dict[str, Measured]:
    places = [1 << power for power in range(start.bit_length() - 1, end.bit_length())]
    return {
        "mamba": Measured(580_920, {at: 1.5 + 4 / at**0.45 for at in places}, [Cost(at, 0.003, 204_800) for at in places]),
        "transformer": Measured(580_864, {at: 1.6 + at / 3000 for at in places}, [Cost(at, 0.001 + at * 8e-7, at * 3072) for at in places]),
    }


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(("start", "end"), [(2, 8192), (16, 16), (16, 32), (1, 65536)])
def test_a_plot_is_well_formed_and_stands_by_itself(start: int, end: int) -> None:
    text = svg(measured(start, end), 512)
    found = ET.fromstring(text)
    said = [each.text for each in found.iter(f"{SVG}text")]
    assert {"mamba, 580,920 parameters", "transformer, 580,864 parameters", "trained on windows of 512 bytes"} <= set(said)
    assert {"bits per byte", "memory of the context, KiB", "time for a byte, ms"} <= set(said)
    style = next(found.iter(f"{SVG}style")).text or ""
    assert set(re.findall(r"var\((--\w+)\)", text)) <= set(re.findall(r"(--\w+):", style))
    assert not re.search(r"href|url\(|@import|<script|body", text)
    assert "nan" not in text
    assert "inf" not in text


def test_its_charts_lie_beside_one_another_and_lines_within_them() -> None:
    found = ET.fromstring(svg(measured(), 512))
    _, _, wide, high = map(float, found.attrib["viewBox"].split())
    charts = [each for each in found if each.tag == f"{SVG}svg"]
    assert len(charts) == 3
    # No class: what a page's style says of a chart's size would win over what is said here.
    assert all("class" not in each.attrib for each in charts)
    boxes = [tuple(float(each.attrib[name]) for name in ("x", "y", "width", "height")) for each in charts]
    assert all(one[0] + one[2] <= other[0] for one, other in itertools.pairwise(boxes))
    assert all(x + width <= wide and y + height <= high for x, y, width, height in boxes)
    for chart in charts:
        paths = [[tuple(map(float, point.split(","))) for point in line.attrib["points"].split()] for line in chart.iter(f"{SVG}polyline")]
        assert [len(path) for path in paths] == [13, 13]
        assert all(92 <= x <= WIDTH - 22 and 14 <= y <= HEIGHT - 60 for path in paths for x, y in path)
        steps = np.diff([x for x, _ in paths[0]])
        assert steps == pytest.approx(np.full(12, steps[0]), abs=0.2)         # each doubling is as far
        grid = [float(line.attrib["x1"]) for line in chart.iter(f"{SVG}line") if line.attrib["x1"] == line.attrib["x2"]]
        assert all(92 <= x <= WIDTH - 22 for x in grid)
    flat, rising = ([tuple(map(float, point.split(",")))[1] for point in line.attrib["points"].split()]
                    for line in charts[1].iter(f"{SVG}polyline"))
    assert np.ptp(flat) == 0
    assert (np.diff(rising) < 0).all()                      # upwards is less in SVG


@pytest.mark.parametrize(("scores", "top"), [([0.2, 0.9], "1"), ([7.5, 3.0], "7.5"), ([1.0, 0.0], "1")])
def test_scores_that_are_no_shares_have_room(scores: list[float], top: str) -> None:
    """Bits for a byte begin at eight."""
    page = curves.page([{"step": 10 * at, "seconds": 1.0, "loss": 2.0, "bits": score} for at, score in enumerate(scores, 1)])
    chart = page[page.index("Held-out scores") : page.index("<b>Loss")]
    places = [float(at) for at in re.findall(r'<circle class="dot" cx="[\d.]+" cy="([-\d.]+)"', chart)]
    assert len(places) == 2
    high, low = 14, HEIGHT - 60
    most = max(1.0, *scores)
    assert places == pytest.approx([low - score / most * (low - high) for score in scores], abs=0.1)
    ticks = re.findall(r'<text class="tick end"[^>]*>([^<]*)<', chart)
    assert (ticks[0], ticks[-1]) == ("0", top)
