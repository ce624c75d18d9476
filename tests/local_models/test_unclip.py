"""A model that draws by way of CLIP's vectors: its arithmetic beside the papers', its training, and what it draws."""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import madang
from madang.base.errors import Conflict, Corrupt, InvalidInput, MissingDependency, NotFound
from madang.base.settings import Local
from madang.cli.main import entry
from madang.cli.train import train
from madang.models.protocol import DrawOptions, ImageGenerator
from madang.models.providers import unclip
from madang.models.providers.clip_pair import Pair
from madang.models.providers.clip_pair import load as load_pair
from madang.models.providers.diffusers import DiffusersProvider
from madang.models.providers.seers import seer_of
from madang.models.providers.unclip import PATCH, TOKENS, Decoder, Layout, UnClip, is_unclip, load, patches, pixels
from madang.models.providers.unclip_images import UnclipImages
from madang.multimodal import training
from madang.multimodal.clip.pool import Pool, Vectors
from madang.multimodal.scenes.claims import Claim
from madang.multimodal.scenes.exam import scenes_of
from madang.multimodal.training import CHECKPOINT, HISTORY, Told
from madang.multimodal.unclip import decoder, job, pairs, prior, sketch
from madang.multimodal.unclip.pairs import Said, scenes
from tests.local_models import checkpoints
from tests.multimodal.seeing import coded, noise

SIDE, DIM = 32, 24                          # of the CLIP that the tests make
SMALL = {"prior": {"heads": 1, "layers": 1}, "decoder": {"channels": (32, 32)}}


@pytest.fixture(scope="module")
def pair(clip_folder: Path) -> Pair:
    found = load_pair(str(clip_folder))
    found.model.requires_grad_(False)
    return found


@pytest.fixture(scope="module")
def draws(unclip_folder: Path) -> UnclipImages:
    found = DiffusersProvider(Local(device="cpu")).image_generator(str(unclip_folder))
    assert isinstance(found, UnclipImages)
    return found


def picture(data: bytes) -> np.ndarray:
    with Image.open(BytesIO(data)) as found:
        return np.asarray(found.convert("RGB")).astype(int)


# --- patches and pixels ---

@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3), high=st.integers(1, 5), wide=st.integers(1, 5))
def test_pixels_are_what_patches_were_made_of(seed: int, count: int, high: int, wide: int) -> None:
    given = torch.randint(0, 256, (count, PATCH * high, PATCH * wide, 3), generator=torch.Generator().manual_seed(seed),
                          dtype=torch.uint8)
    found = patches(given)
    assert found.shape == (count, 3 * PATCH**2, high, wide)
    assert found.abs().max() <= 1
    assert torch.equal(pixels(found), given)


def test_a_patch_holds_the_pixels_of_its_place_and_what_is_too_bright_is_cut() -> None:
    given = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    given[0, 5, 2] = torch.tensor([255, 10, 20])          # in the patch below, at its row 1 and column 2
    found = patches(given)
    assert found.amax((0, 1)).tolist() == [[-1, -1], [1, -1]]
    changed = found[0, :, 1, 0].view(3, PATCH, PATCH)[:, 1, 2]
    assert changed.tolist() == pytest.approx([1, 10 / 127.5 - 1, 20 / 127.5 - 1])
    assert pixels(torch.full((1, 48, 1, 1), 7.0)).unique().tolist() == [255]
    assert pixels(torch.full((1, 48, 1, 1), -7.0)).unique().tolist() == [0]


# --- the schedule of the papers, written out once more ---

def kept(count: int = 1000) -> np.ndarray:
    """Nichol and Dhariwal 2021, eq. 17, with s = 0.008 and betas clipped at 0.999: what is left of a picture after each
    step of noise."""
    def f(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    bars = [f(step / count) / f(0) for step in range(count + 1)]
    betas = [min(1 - after / before, 0.999) for before, after in itertools.pairwise(bars)]
    return np.cumprod(1 - np.array(betas))


@pytest.mark.parametrize("schedule", [decoder.SCHEDULE, prior.SCHEDULE], ids=["decoder", "prior"])
def test_the_schedule_is_the_cosine_of_nichol_and_dhariwal(schedule: dict[str, Any]) -> None:
    scheduler = DDIMScheduler(**schedule)
    assert scheduler.alphas_cumprod.numpy() == pytest.approx(kept(), rel=1e-3, abs=1e-7)
    assert scheduler.config.prediction_type == "sample"
    assert scheduler.init_noise_sigma == 1
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999                   # it begins where there is nothing but noise


@pytest.mark.parametrize("schedule", [decoder.SCHEDULE, prior.SCHEDULE], ids=["decoder", "prior"])
def test_noise_is_added_as_by_ho_and_others(schedule: dict[str, Any]) -> None:
    """DDPM (Ho et al. 2020), eq. 4."""
    clean, noise_ = torch.randn(7, 3, 4, 4), torch.randn(7, 3, 4, 4)
    times = torch.tensor([0, 1, 10, 400, 700, 998, 999])
    found = DDIMScheduler(**schedule).add_noise(clean, noise_, times)
    bars = kept()[times.numpy()]
    for row, bar in enumerate(bars):
        assert found[row].numpy() == pytest.approx(math.sqrt(bar) * clean[row].numpy() + math.sqrt(1 - bar) * noise_[row].numpy(),
                                                   abs=1e-4)


class Fake:
    """In place of the U-Net: says the same pictures whatever it is shown, and remembers what that was."""

    def __init__(self, clean: Tensor, without: Tensor | None = None, dim: int = 8) -> None:
        self.clean, self.without = clean, clean if without is None else without
        self.config = SimpleNamespace(sample_size=clean.shape[-1], projection_class_embeddings_input_dim=dim)
        self.shown: list[Tensor] = []
        self.times: list[int] = []
        self.asked: list[Tensor] = []

    def __call__(self, given: Tensor, at: Tensor, told: Tensor, *, class_labels: Tensor) -> Any:
        assert told.flatten(1).equal(class_labels)
        assert told.shape == (len(given), TOKENS, class_labels.shape[1] // TOKENS)
        self.shown.append(given[:, : 3 * PATCH**2].clone())
        self.times.append(int(at[0]))
        self.asked.append(class_labels)
        return SimpleNamespace(sample=self.clean if class_labels.any() else self.without)


def _made(fake: Fake, scheduler: Any) -> Decoder:
    return Decoder(fake, Layout(fake.config.projection_class_embeddings_input_dim), scheduler)


def _unit(count: int, dim: int = 8) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
def test_every_step_is_that_of_song_and_others(steps: int) -> None:
    """DDIM (Song et al. 2021), eq. 12 with sigma 0, from the picture that is predicted: all the way to the end."""
    clean = torch.rand(2, 48, 2, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    fake, begun = Fake(clean), torch.randn(2, 48, 2, 2, generator=torch.Generator().manual_seed(2))
    found = _made(fake, DDIMScheduler(**decoder.SCHEDULE)).draw(_unit(2), begun, steps=steps, guidance=1.0)
    bars, now, x0 = kept(), begun.numpy().astype(float), clean.numpy().astype(float)
    assert fake.times == [1000 - 1 - at * (1000 // steps) for at in range(steps)]
    for at, time in enumerate(fake.times):
        assert fake.shown[at].numpy() == pytest.approx(now, abs=2e-3)
        bar, before = bars[time], bars[fake.times[at + 1]] if at + 1 < steps else 1.0
        predicted_noise = (now - math.sqrt(bar) * x0) / math.sqrt(1 - bar)
        now = math.sqrt(before) * x0 + math.sqrt(1 - before) * predicted_noise
    assert now == pytest.approx(x0)
    assert torch.equal(found, pixels(clean))


def test_ancestral_steps_have_the_posterior_of_ho_and_others() -> None:
    """DDPM (Ho et al. 2020), eq. 6 and 7, with the same settings and the same weights: any scheduler may be saved."""
    clean = torch.rand(1, 48, 2, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    fake, begun = Fake(clean), torch.randn(1, 48, 2, 2, generator=torch.Generator().manual_seed(2))
    scheduler = DDPMScheduler(**{**decoder.SCHEDULE, "num_train_timesteps": 100}, variance_type="fixed_small")
    found = _made(fake, scheduler).draw(_unit(1), begun, steps=100, guidance=1.0, chance=torch.Generator().manual_seed(3))
    chance, bars, x0 = torch.Generator().manual_seed(3), kept(100), clean.numpy().astype(float)
    assert fake.times == list(range(99, -1, -1))
    for at, time in enumerate(fake.times[:-1]):
        now, after = fake.shown[at].numpy().astype(float), fake.shown[at + 1].numpy()
        drawn = torch.randn(clean.shape, generator=chance).numpy()
        beta = 1 - bars[time] / bars[time - 1]
        mean = (math.sqrt(bars[time - 1]) * beta * x0 + math.sqrt(1 - beta) * (1 - bars[time - 1]) * now) / (1 - bars[time])
        variance = (1 - bars[time - 1]) / (1 - bars[time]) * beta
        assert after == pytest.approx(mean + math.sqrt(variance) * drawn, abs=2e-3), time
    assert torch.equal(found, pixels(clean))


# --- guidance ---

@pytest.mark.parametrize(("guidance", "calls"), [(1.0, 1), (0.0, 2), (0.5, 2), (2.0, 2), (7.5, 2)])
def test_guidance_goes_from_what_is_drawn_without_towards_what_is_drawn_with(guidance: float, calls: int) -> None:
    """Ho and Salimans 2022; 1 is what was learnt, and costs no second call."""
    chance = torch.Generator().manual_seed(4)
    with_, without = (torch.rand(3, 48, 2, 2, generator=chance) - 0.5 for _ in range(2))
    fake, seen = Fake(with_, without), []
    found = _made(fake, DDIMScheduler(**decoder.SCHEDULE)).draw(_unit(3), torch.randn(3, 48, 2, 2, generator=chance), steps=4,
                                                                guidance=guidance, seen=seen.append)
    assert len(fake.shown) == 4 * calls
    wanted = pixels((without + guidance * (with_ - without)).clamp(-1, 1)).int()
    assert len(seen) == 4
    assert all((each.int() - wanted).abs().max() <= 1 for each in [*seen, found])
    for asked in fake.asked:
        assert not asked.any() or torch.allclose(asked, _unit(3) * math.sqrt(8))


def test_places_and_the_map_of_the_vector_are_shown_beside_the_noise() -> None:
    """Rows first, then columns, from -1 to 1; then what the layout says."""
    given: list[Tensor] = []
    fake = Fake(torch.zeros(1, 48, 3, 3))
    layout = Layout(8, channels=2, cells=3)

    def unet(shown: Tensor, at: Tensor, told: Tensor, *, class_labels: Tensor) -> Any:
        given.append(shown)
        return SimpleNamespace(sample=shown[:, :48])

    unet.config = fake.config       # type: ignore[attr-defined]
    Decoder(unet, layout, None).clean(torch.zeros(1, 48, 3, 3), torch.tensor([5]), _unit(1))
    assert given[0].shape == (1, 48 + 2 + 2, 3, 3)
    assert given[0][0, 48].tolist() == [[-1] * 3, [0] * 3, [1] * 3]
    assert given[0][0, 49].tolist() == [[-1, 0, 1]] * 3
    assert given[0][0, 50:].detach().numpy() == pytest.approx(_mapped(layout, _unit(1)[0].numpy() * math.sqrt(8)), abs=1e-5)


def _mapped(layout: Layout, vector: np.ndarray) -> np.ndarray:
    """Three layers, written out: between them GELU (Hendrycks and Gimpel 2016), x times the normal distribution's share
    below x."""
    held = {name: value.double().numpy() for name, value in layout.state_dict().items()}
    now = vector.astype(float)
    for at in (0, 2, 4):
        now = held[f"layers.{at}.weight"] @ now + held[f"layers.{at}.bias"]
        if at < 4:
            now = now * (1 + np.vectorize(math.erf)(now / math.sqrt(2))) / 2
    return now.reshape(layout.channels, layout.cells, layout.cells)


def test_a_layout_says_the_same_of_all_of_a_cell() -> None:
    layout = Layout(8, channels=3, cells=2, hidden=5)
    with torch.no_grad():
        found, large = layout.map(_unit(4)).numpy(), layout(_unit(4), 6).numpy()
    assert found.shape == (4, 3, 2, 2)
    assert found == pytest.approx(np.stack([_mapped(layout, each.numpy()) for each in _unit(4)]), abs=1e-6)
    assert np.array_equal(large, found.repeat(3, 2).repeat(3, 3))


def test_a_prior_imagines_unit_vectors_by_the_same_steps() -> None:
    clean = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)) * 3
    seen: list[tuple[int, Tensor]] = []

    def transformer(noisy: Tensor, at: Tensor, *, proj_embedding: Tensor) -> Any:
        assert torch.allclose(proj_embedding, _unit(2) * math.sqrt(8))
        seen.append((int(at[0]), noisy.clone()))
        return SimpleNamespace(predicted_image_embedding=clean)

    transformer.config = SimpleNamespace(embedding_dim=8)       # type: ignore[attr-defined]
    made = unclip.Prior(transformer, DDIMScheduler(**prior.SCHEDULE))
    begun = torch.randn(2, 8)
    found = made.imagine(_unit(2), begun, steps=5)
    assert torch.allclose(found, clean / clean.norm(dim=1, keepdim=True), atol=1e-5)
    assert [time for time, _ in seen] == [999, 799, 599, 399, 199]
    bars, now, x0 = kept(), begun.numpy().astype(float), clean.numpy()
    for time, noisy in seen:
        assert noisy.numpy() == pytest.approx(now, abs=5e-3)
        if time >= 200:
            predicted_noise = (now - math.sqrt(bars[time]) * x0) / math.sqrt(1 - bars[time])
            now = math.sqrt(bars[time - 200]) * x0 + math.sqrt(1 - bars[time - 200]) * predicted_noise


# --- what is drawn ---

def test_the_same_seed_gives_the_same_picture_and_the_first_of_several_is_the_one_alone(draws: ImageGenerator) -> None:
    options = DrawOptions(seed=7, steps=3)
    one = draws.draw("a red circle", options)[0]
    assert draws.draw("a red circle", options)[0].data == one.data
    several = draws.draw("a red circle", replace(options, count=3))
    assert len(several) == 3
    for at, each in enumerate(several):      # several take the seeds after it
        alone = draws.draw("a red circle", replace(options, seed=7 + at))[0]
        assert np.abs(picture(each.data) - picture(alone.data)).max() <= 1
    assert len({each.data for each in several}) == 3
    assert draws.draw("a blue star", options)[0].data != one.data
    assert draws.draw("a red circle", replace(options, seed=None))[0].data != draws.draw(
        "a red circle", replace(options, seed=None))[0].data
    assert {draws.draw("a", DrawOptions(seed=seed, steps=1))[0].media_type for seed in (0, 2**63 - 1)} == {"image/png"}


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 7, 20, 61])
def test_there_are_as_many_frames_as_steps_and_the_last_is_the_picture(draws: ImageGenerator, steps: int) -> None:
    (found,) = draws.draw("a red circle", DrawOptions(seed=1, steps=steps, guidance=1.0, frames=True))
    assert len(found.frames) == steps
    assert (picture(found.frames[-1]) == picture(found.data)).all()
    assert all(picture(frame).shape == (SIDE, SIDE, 3) for frame in found.frames)


def test_frames_are_there_only_where_they_are_asked_for_and_change_nothing(draws: ImageGenerator) -> None:
    plain = draws.draw("a star", DrawOptions(seed=1, steps=4, count=2))
    shown = draws.draw("a star", DrawOptions(seed=1, steps=4, count=2, frames=True))
    assert [each.frames for each in plain] == [(), ()]
    assert [each.data for each in plain] == [each.data for each in shown]
    assert [len(each.frames) for each in shown] == [4, 4]
    assert shown[0].frames != shown[1].frames


@pytest.mark.parametrize(("quality", "steps"), [("low", 10), ("", 20), ("medium", 20), ("high", 40)])
def test_quality_is_a_number_of_steps(draws: ImageGenerator, quality: str, steps: int) -> None:
    (found,) = draws.draw("a star", DrawOptions(seed=1, guidance=1.0, quality=quality, frames=True))
    assert len(found.frames) == steps
    assert found.data == draws.draw("a star", DrawOptions(seed=1, guidance=1.0, steps=steps))[0].data


def test_guidance_and_steps_make_other_pictures(draws: ImageGenerator) -> None:
    found = {draws.draw("a star", DrawOptions(seed=1, **how))[0].data      # type: ignore[arg-type]
             for how in ({"steps": 4}, {"steps": 5}, {"steps": 4, "guidance": 1.0}, {"steps": 4, "guidance": 0.0})}
    assert len(found) == 4
    usual = draws.draw("a star", DrawOptions(seed=1, steps=4, guidance=3.0))[0]
    assert usual.data == draws.draw("a star", DrawOptions(seed=1, steps=4))[0].data


@pytest.mark.parametrize("size", ["32x32", "64x64", "96x40", "40x96", "8x8", "24x1000", "auto", ""])
def test_sizes_are_reached_by_enlarging(draws: ImageGenerator, size: str) -> None:
    (own,), (found,) = (draws.draw("a star", DrawOptions(seed=1, steps=2, size=each)) for each in ("", size))
    wanted = (SIDE, SIDE) if size in ("", "auto") else tuple(map(int, size.split("x")))
    with Image.open(BytesIO(found.data)) as made:
        assert made.size == wanted
    if wanted == (SIDE, SIDE):
        assert found.data == own.data
        return
    side = max(wanted)                     # as large as covers it, and the middle of that
    with Image.open(BytesIO(own.data)) as small:
        large = np.asarray(small.resize((side, side), Image.Resampling.LANCZOS)).astype(int)
    left, top = (side - wanted[0]) // 2, (side - wanted[1]) // 2
    assert (picture(found.data) == large[top : top + wanted[1], left : left + wanted[0]]).all()


@pytest.mark.parametrize(("kind", "media_type"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_pictures_have_the_format_that_was_asked_for(draws: ImageGenerator, kind: str, media_type: str) -> None:
    (found,) = draws.draw("a star", DrawOptions(seed=1, steps=1, output_format=kind))
    assert found.media_type == media_type
    with Image.open(BytesIO(found.data)) as made:
        assert made.get_format_mimetype() == media_type


@pytest.mark.parametrize("prompt", [
    "밤의 바다, 왼쪽에 작은 별", "🦊 👩\u200d👩\u200d👧 🇰🇷", "<script>alert('1')</script>", "a\0b\0", "\x1b[31m \x07 \u202e", "a " * 10_000,
    "x" * 50_000, "{{ 7 * 7 }} %s %(a)s ${HOME} ../../etc", "<|endoftext|><|startoftext|>", "."])
def test_any_prompt_is_drawn(draws: ImageGenerator, prompt: str) -> None:
    first, again = (draws.draw(prompt, DrawOptions(seed=1, steps=1))[0] for _ in range(2))
    assert first.data == again.data
    assert picture(first.data).shape == (SIDE, SIDE, 3)


def test_a_prompt_with_zero_bytes_says_what_it_says_with_spaces(draws: ImageGenerator) -> None:
    options = DrawOptions(seed=1, steps=1)
    assert draws.draw("a\0star", options)[0].data == draws.draw("a star", options)[0].data


@pytest.mark.parametrize("prompt", ["", "  \n\t", "\u3000"])
def test_nothing_to_draw_is_refused(draws: ImageGenerator, prompt: str) -> None:
    with pytest.raises(InvalidInput, match="prompt is empty"):
        draws.draw(prompt)


@pytest.mark.parametrize(("options", "field"), [
    ({"count": 0}, "count"), ({"count": 11}, "count"), ({"count": -1}, "count"),
    ({"output_format": "tiff"}, "output_format"), ({"output_format": "PNG "}, "output_format"),
    ({"steps": 0}, "steps"), ({"steps": -3}, "steps"), ({"steps": 1001}, "steps"),
    ({"seed": -1}, "seed"), ({"seed": 2**63}, "seed"),
    ({"guidance": -0.1}, "guidance"), ({"guidance": 100.1}, "guidance"), ({"guidance": float("nan")}, "guidance"),
    ({"guidance": float("inf")}, "guidance"),
    ({"size": "33x32"}, "size"), ({"size": "0x8"}, "size"), ({"size": "big"}, "size"), ({"size": "2048x2056"}, "size"),
    ({"size": "99999x99999"}, "size"), ({"size": "-8x8"}, "size"), ({"size": "8x8\n"}, "size")])
def test_what_cannot_be_is_refused_naming_the_field(draws: UnclipImages, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field} must be"):
        draws.draw("a", DrawOptions(**options))
    with pytest.raises(InvalidInput, match=f"^{field} must be"):
        draws.draw_vector(np.ones(DIM, np.float32), DrawOptions(**options))


def test_vectors_are_drawn_of_texts_and_of_pictures(draws: UnclipImages, pair: Pair) -> None:
    options = DrawOptions(seed=3, steps=2)
    assert draws.side == SIDE
    said = pair.embed(["a red star"])[0]
    assert draws.draw_vector(said, options)[0].data == draws.draw("a red star", options)[0].data
    imagined = draws.imagine(np.stack([said, said]), seed=3)
    assert np.linalg.norm(imagined, axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(imagined[0], imagined[1])                # by chance
    assert np.array_equal(imagined, draws.imagine(np.stack([said, said]), seed=3))
    of_picture = draws.draw_vector(imagined[0], options, of_picture=True)[0]
    assert np.abs(picture(of_picture.data) - picture(draws.draw("a red star", options)[0].data)).max() <= 1
    assert len(draws.draw_vector(said, replace(options, count=2, frames=True), of_picture=True)[1].frames) == 2
    for wrong in (said[:-1], said[None], np.ones(0, np.float32)):
        with pytest.raises(InvalidInput, match="24 numbers are needed"):
            draws.draw_vector(wrong)


# --- folders ---

def test_saved_and_loaded_it_draws_the_same(unclip_folder: Path, tmp_path: Path) -> None:
    made = load(unclip_folder)
    assert (made.clip, made.decoder.side, made.decoder.dim, made.prior.dim) == ("clip", SIDE, DIM, DIM)
    made.save(tmp_path / "again")
    again = load(tmp_path / "again")
    vectors, begun = _unit(2, DIM), made.decoder.noise(2, 5)
    assert torch.equal(made.decoder.draw(vectors, begun, steps=3), again.decoder.draw(vectors, begun, steps=3))
    assert torch.equal(made.prior.imagine(vectors, vectors, steps=3), again.prior.imagine(vectors, vectors, steps=3))


@pytest.mark.parametrize(("hidden", "cells"), [(7, 8), (600, 8), (7, 4)])
def test_a_layout_of_any_size_is_loaded(unclip_folder: Path, tmp_path: Path, hidden: int, cells: int) -> None:
    """The folder names no sizes: they are those of the weights."""
    made = load(unclip_folder)
    torch.manual_seed(hidden)
    made.decoder.layout = Layout(DIM, cells=cells, hidden=hidden)
    made.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert again.decoder.layout.cells == cells
    assert again.decoder.layout.layers[2].weight.shape == (hidden, hidden)
    assert all(torch.equal(value, again.decoder.layout.state_dict()[name]) for name, value in made.decoder.layout.state_dict().items())
    vectors, begun = _unit(2, DIM), made.decoder.noise(2, 5)
    assert torch.equal(made.decoder.draw(vectors, begun, steps=2), again.decoder.draw(vectors, begun, steps=2))


def test_any_scheduler_of_the_library_may_draw(unclip_folder: Path, tmp_path: Path) -> None:
    """As the folder's file names it: ancestral steps, and faster ones."""
    for name in ("DDPMScheduler", "DPMSolverMultistepScheduler"):
        folder = shutil.copytree(unclip_folder, tmp_path / name)
        path = folder / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": name}))
        model = UnclipImages("x", folder, seer_of)
        (found,) = model.draw("a star", DrawOptions(seed=1, steps=4, frames=True))
        assert len(found.frames) == 4
        assert type(load(folder).decoder.scheduler).__name__ == name


def test_only_a_folder_of_ours_is_one(unclip_folder: Path, pipeline_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    assert is_unclip(unclip_folder)
    assert is_unclip(str(unclip_folder))
    for other in (pipeline_folder, clip_folder, tmp_path, tmp_path / "none", unclip_folder / "model_index.json"):
        assert not is_unclip(other)
    for text in ("", "[]", "7", '{"_class_name": 7}', "{" * 10, "\xff"):
        (tmp_path / "model_index.json").write_text(text, encoding="latin-1")
        assert not is_unclip(tmp_path)


@pytest.mark.parametrize("where", [
    "{folder}", "../{folder.parent.name}/{folder.name}",
    "./{folder.name}", "~/{folder.name}"])
def test_folders_are_named_as_those_of_other_models(unclip_folder: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """See `weights.folder_of`."""
    monkeypatch.setenv("HOME", str(unclip_folder.parent))
    monkeypatch.chdir(unclip_folder.parent)
    model = DiffusersProvider(Local(device="cpu", download=False)).image_generator(where.format(folder=unclip_folder))
    assert len(model.draw("a", DrawOptions(steps=1))) == 1


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _holding(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def _changed(name: str, **values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return change


@pytest.mark.parametrize("damage", [
    _without("prior/diffusion_pytorch_model.safetensors"), _without("decoder/diffusion_pytorch_model.safetensors"),
    _without("decoder/layout.safetensors"), _without("scheduler/scheduler_config.json"), _without("prior/config.json"),
    _holding("decoder/diffusion_pytorch_model.safetensors", b"no"), _holding("decoder/layout.safetensors", b"\0" * 64),
    _holding("decoder/config.json", b"{"), _holding("prior_scheduler/scheduler_config.json", b"[]"),
    _changed("scheduler/scheduler_config.json", _class_name="os.system"),
    _changed("scheduler/scheduler_config.json", _class_name="DiffusionPipeline"),
    _changed("scheduler/scheduler_config.json", _class_name="NoScheduler"),
    _changed("decoder/config.json", in_channels=60), _changed("prior/config.json", embedding_dim=20),
    _changed("model_index.json", clip=None), _holding("model_index.json", b'{"_class_name": "MadangUnClip"}')])
def test_a_damaged_folder_is_told(unclip_folder: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    broken = shutil.copytree(unclip_folder, tmp_path / "broken")
    damage(broken)
    if damage.__closure__ and any(cell.cell_contents == {"clip": None} for cell in damage.__closure__):
        shutil.rmtree(broken / "clip")
    model = DiffusersProvider(Local(device="cpu")).image_generator(str(broken))
    with pytest.raises((Corrupt, NotFound)) as told:
        model.draw("a star")
    assert "broken" in str(told.value) or "None" in str(told.value)


@pytest.mark.parametrize("part", ["prior", "decoder"])
def test_missing_weights_are_not_made_up(unclip_folder: Path, tmp_path: Path, part: str) -> None:
    path = shutil.copytree(unclip_folder, tmp_path / "broken") / part / "diffusion_pytorch_model.safetensors"
    found = load_file(path)
    name = min(found)
    del found[name]
    save_file(found, path)
    with pytest.raises(Corrupt, match=f"broken cannot be loaded: it has no {re.escape(name)}"):
        load(tmp_path / "broken")


def test_a_clip_of_other_vectors_or_none_is_told(unclip_folder: Path, tmp_path: Path, siglip_folder: Path) -> None:
    broken = shutil.copytree(unclip_folder, tmp_path / "broken")
    shutil.rmtree(broken / "clip")
    with pytest.raises(NotFound, match="clip"):
        UnclipImages("x", broken, seer_of, Local(download=False)).draw("a star")
    shutil.copytree(siglip_folder, broken / "clip")
    with pytest.raises(Corrupt, match=r"by vectors of 24 numbers, but its CLIP \(clip\) gives 32"):
        UnclipImages("x", broken, seer_of).draw("a star")


def test_a_bundled_clip_is_named_and_not_copied(tmp_path: Path) -> None:
    """The one that comes with the package, by ONNX."""
    made = UnClip(prior.small(256, heads=1, layers=1), decoder.small(256, 32, channels=(32, 32)), "bundled/clip")
    made.save(tmp_path / "drawer")
    assert not (tmp_path / "drawer" / "clip").exists()
    model = DiffusersProvider(Local(device="cpu")).image_generator(str(tmp_path / "drawer"))
    assert len(model.draw("a star", DrawOptions(steps=1))) == 1


def test_numbers_that_are_no_picture_are_a_fault_of_the_model(unclip_folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(unclip_folder, tmp_path / "broken")
    path = broken / "decoder" / "layout.safetensors"
    save_file({name: value[:-16] for name, value in load_file(path).items()}, path)
    with pytest.raises(Corrupt, match="cannot be loaded"):
        UnclipImages("x", broken, seer_of).draw("a star")


# --- training ---

def test_attention_is_where_the_decoder_is_narrowest() -> None:
    unet = decoder.small(DIM, SIDE, channels=(32, 96)).unet
    heads = {name: module.heads for name, module in unet.named_modules() if hasattr(module, "heads")}
    assert heads
    assert all(name.startswith("mid_block.") and count == 3 for name, count in heads.items())     # of 32 numbers each
    assert unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.in_features == DIM // TOKENS


def test_a_decoder_has_four_million_parameters() -> None:
    made = decoder.small(256)
    assert 3.5e6 < sum(each.numel() for each in made.unet.parameters()) < 4.5e6
    assert (made.side, made.dim) == (64, 256)


@pytest.mark.parametrize("most", [0.0, 0.2, 0.35])
def test_a_vector_is_moved_so_far_at_most(most: float) -> None:
    """The farthest from v that v + m u lies, for unit vectors, is at the angle whose sine is m."""
    vectors = _unit(2000, 16)
    found = decoder.blurred(vectors, most, training.chance(0, 1))
    assert found.norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    cosines = (found * vectors).sum(1)
    assert cosines.min() >= math.sqrt(1 - most**2) - 1e-5
    # By shares of any size up to that, at right angles nearly: the mean of 1 / sqrt(1 + m^2).
    assert float(cosines.mean()) == pytest.approx(np.mean([1 / math.sqrt(1 + (most * at / 1000) ** 2) for at in range(1000)]), abs=0.003)
    assert torch.equal(found, decoder.blurred(vectors, most, training.chance(0, 1)))
    assert most == 0 or not torch.equal(found, decoder.blurred(vectors, most, training.chance(0, 2)))


class Two:
    """Two pictures with vectors, as the sources of both trainings."""

    def __init__(self, side: int = SIDE, dim: int = DIM) -> None:
        self.pictures = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        self.pictures[0, :, :, 0] = 240
        self.pictures[1, : side // 2, :, 2] = 250
        self.vectors = torch.zeros(2, dim)
        self.vectors[0, 0], self.vectors[1, 1] = 1, 1
        self.texts = torch.zeros(2, dim)
        self.texts[0, 2], self.texts[1, 3] = 1, 1

    def __len__(self) -> int:
        return 2

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.pictures[rows], self.vectors[rows]

    def pairs(self, step: int, size: int) -> tuple[Tensor, Tensor]:
        rows = torch.arange(size) % 2
        return self.vectors[rows], self.texts[rows]


def _decoder(seed: int = 0) -> Decoder:
    return decoder.small(DIM, SIDE, channels=(32, 32), seed=seed)


def _state(task: Any) -> dict[str, Tensor]:
    return {f"{part}.{name}": value.clone() for part, module in task.modules.items() for name, value in module.state_dict().items()}


def _drawing(recipe: decoder.Recipe) -> decoder.Drawing:
    return decoder.Drawing(_decoder(), Two(), recipe)


def _imagining(recipe: prior.Recipe) -> prior.Imagining:
    return prior.Imagining(prior.small(DIM, heads=1, layers=1), Two(), recipe)


def _seeing(recipe: prior.Recipe) -> prior.Imagining:
    torch.manual_seed(1)
    return prior.Imagining(prior.small(DIM, heads=1, layers=1), Two(), recipe, Layout(DIM, hidden=8).requires_grad_(False).map)


def _sketching(recipe: sketch.Recipe) -> sketch.Sketching:
    torch.manual_seed(0)
    return sketch.Sketching(Layout(DIM, hidden=32), SIDE, Two(), recipe)


@pytest.mark.parametrize(("task", "recipe"), [
    (_drawing, decoder.Recipe(steps=5, batch=4, warmup=2, threads=1)), (_imagining, prior.Recipe(steps=6, batch=4, warmup=2, threads=1)),
    (_seeing, prior.Recipe(steps=6, batch=4, warmup=2, threads=1)), (_sketching, sketch.Recipe(steps=6, batch=4, warmup=2, threads=1))],
    ids=["decoder", "prior", "prior that sees", "layout"])
def test_training_goes_on_exactly_where_it_was(task: Callable[[Any], Any], recipe: Any, tmp_path: Path) -> None:
    def trained(folder: str, *, stop: int = 0, kept_s: float = 120.0) -> dict[str, Tensor]:
        made = task(recipe)

        def tell(now: Told) -> None:
            if now.step == stop:
                raise KeyboardInterrupt

        training.train(made, recipe, tmp_path / folder, keep_s=kept_s, tell=tell)
        return _state(made)

    whole = trained("whole")
    for stop in (2, 4):
        with pytest.raises(KeyboardInterrupt):
            trained("cut", stop=stop, kept_s=0)
    found = trained("cut")
    assert all(torch.equal(value, found[name]) for name, value in whole.items())
    assert any(not torch.equal(value, found[name]) for name, value in _state(task(recipe)).items())
    with pytest.raises(Conflict, match=r"blur 0\.\d+ \(now 0\.5\)"):
        training.train(task(replace(recipe, blur=0.5)), replace(recipe, blur=0.5), tmp_path / "cut")
    (tmp_path / "cut" / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(Corrupt, match="Delete it"):
        trained("cut")


def test_the_mean_of_the_weights_follows_them(tmp_path: Path) -> None:
    """Ho et al. 2020, appendix B, with a faster beginning: written out here, from the weights after each step."""
    recipe = decoder.Recipe(steps=5, batch=4, warmup=1, learning_rate=0.01, average=0.3, bfloat16=False)
    task = _drawing(recipe)
    mean = {name: value.clone() for name, value in [*task.decoder.unet.state_dict().items(), *task.decoder.layout.state_dict().items()]}
    assert all(torch.equal(value, mean[name]) for name, value in task.averaged.unet.state_dict().items())

    def follow(now: Told) -> None:
        keep = min(0.3, now.step / (now.step + 9))
        for name, value in [*task.decoder.unet.state_dict().items(), *task.decoder.layout.state_dict().items()]:
            mean[name] = keep * mean[name] + (1 - keep) * value

    training.train(task, recipe, tmp_path, tell=follow)
    for name, value in [*task.averaged.unet.state_dict().items(), *task.averaged.layout.state_dict().items()]:
        assert torch.allclose(value, mean[name], atol=1e-6), name
    assert any(not torch.equal(value, mean[name]) for name, value in task.decoder.unet.state_dict().items())
    assert not any(each.requires_grad for each in task.averaged.unet.parameters())


def test_the_loss_is_the_weighted_error_of_the_clean_picture() -> None:
    """With a model that always says the same: no error where it is right."""
    source, recipe = Two(), decoder.Recipe(batch=16, bfloat16=False)
    task = decoder.Drawing(_decoder(), source, recipe)
    shown: list[tuple[Tensor, Tensor, Tensor]] = []
    said = torch.zeros(16, 48, SIDE // PATCH, SIDE // PATCH)

    def clean(noisy: Tensor, at: Tensor, vectors: Tensor) -> Tensor:
        shown.append((noisy, at, vectors))
        return said

    task.decoder.clean = clean        # type: ignore[method-assign]
    loss = float(task.loss(3))
    assert float(task.loss(3)) == loss               # the same number, the same chance
    (noisy, times, vectors), again = shown
    assert all(torch.equal(one, other) for one, other in zip(shown[0], again, strict=True))
    bars = kept()[times.numpy()]
    for row in range(16):                            # which of the two it is can be told from the vector, if it is there
        if vectors[row].any():
            assert float(vectors[row].norm()) == pytest.approx(1, abs=1e-5)
            nearest = int((source.vectors @ vectors[row]).argmax())
            assert float(source.vectors[nearest] @ vectors[row]) >= 1 / math.sqrt(1 + 0.35**2) - 1e-4 - 0.35
    rows = torch.randint(2, (16,), generator=training.chance(recipe.seed, 3))
    truth = patches(source.pictures[rows])
    left = noisy - torch.from_numpy(np.sqrt(bars)).float().view(-1, 1, 1, 1) * truth
    spread = (left / torch.from_numpy(np.sqrt(1 - bars)).float().view(-1, 1, 1, 1))[bars < 0.99]
    assert float(spread.mean()) == pytest.approx(0, abs=0.05)
    assert float(spread.std()) == pytest.approx(1, abs=0.05)
    weights = np.clip(bars / (1 - bars), 1, 5)
    assert loss == pytest.approx(float(np.mean(truth.square().mean((1, 2, 3)).numpy() * weights)), rel=1e-3)
    said = truth
    assert float(task.loss(3)) == 0
    nothing = [not row.any() for step in range(40) for row in (task.loss(step), shown[-1][2])[1]]
    assert 0.05 < np.mean(nothing) < 0.16                   # a tenth is drawn from nothing


def test_a_prior_learns_what_picture_a_text_means(tmp_path: Path) -> None:
    recipe = prior.Recipe(steps=120, batch=16, warmup=5, learning_rate=3e-3, bfloat16=False)
    task = _imagining(recipe)
    told: list[float] = []
    training.train(task, recipe, tmp_path, tell=lambda now: told.append(now.loss))
    assert np.mean(told[-10:]) < 0.5 * np.mean(told[:5])
    source = Two()
    found = task.prior.imagine(source.texts, torch.randn(2, DIM, generator=torch.Generator().manual_seed(5)))
    scores = found @ source.vectors.T
    assert scores.argmax(1).tolist() == [0, 1]
    assert scores.diagonal().min() > 0.8


def test_each_pair_is_seen_with_as_many_noises(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read a text takes long, and is done once; what is learnt from it is told from other noise each time."""
    source = Two()
    shown: list[tuple[Tensor, Tensor, Tensor]] = []
    truth = True

    def clean(noisy: Tensor, at: Tensor, texts: Tensor) -> Tensor:
        shown.append((noisy, at, texts))
        return source.vectors[(texts @ source.texts.T).argmax(1)] * math.sqrt(DIM) * truth

    for noises in (1, 3):
        task = _imagining(prior.Recipe(batch=4, noises=noises, bfloat16=False))
        monkeypatch.setattr(task.prior, "clean", clean)
        assert float(task.loss(3)) == pytest.approx(0, abs=1e-10)
        noisy, times, texts = shown[-1]
        assert (len(noisy), len(times), len(texts)) == (4 * noises,) * 3
        of = (texts @ source.texts.T).argmax(1)
        assert of.bincount().tolist() == [2 * noises] * 2
        bars = torch.from_numpy(kept()[times.numpy()]).float()[:, None]
        noise_ = (noisy - bars.sqrt() * source.vectors[of] * math.sqrt(DIM)) / (1 - bars).sqrt()
        assert (noise_[:, None] - noise_[None]).norm(dim=2).add(torch.eye(len(noisy)) * 9).min() > 0.5       # no two are the same
        assert len(set(times.tolist())) > noises
    truth = False                                    # zeros are said: the square of numbers of size 1
    assert float(task.loss(3)) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InvalidInput, match="noises: at least 1, not 0"):
        prior.Recipe(noises=0)


@pytest.mark.parametrize("sight", [0.0, 1.0, 2.5])
def test_what_is_seen_in_the_vectors_counts_too(monkeypatch: pytest.MonkeyPatch, sight: float) -> None:
    """By its mean square, as a share of how much it differs from picture to picture; of vectors as long as the true ones."""
    source, chance = Two(), torch.Generator().manual_seed(2)
    look = torch.randn(DIM, 5, generator=chance)
    task = prior.Imagining(prior.small(DIM, heads=1, layers=1), source, prior.Recipe(batch=4, noises=3, sight=sight, bfloat16=False),
                           lambda vectors: vectors @ look)
    said, shown = torch.randn(12, DIM, generator=chance) * 3, []

    def clean(noisy: Tensor, at: Tensor, texts: Tensor) -> Tensor:
        shown.append(source.vectors[(texts @ source.texts.T).argmax(1)])
        return said

    monkeypatch.setattr(task.prior, "clean", clean)
    loss = task.loss(3).item()
    given, true = said.double().numpy(), shown[0].double().numpy() * math.sqrt(DIM)
    wanted = np.mean((given - true) ** 2)
    unit = given / np.linalg.norm(given, axis=1, keepdims=True) * math.sqrt(DIM)
    through = look.double().numpy()
    wanted += sight * np.mean((unit @ through - true @ through) ** 2) / np.var(true @ through, axis=0, ddof=1).mean()
    assert loss == pytest.approx(wanted, rel=1e-4)
    said = torch.from_numpy(true).float()
    assert task.loss(3).item() == pytest.approx(0, abs=1e-8)
    monkeypatch.setattr(source, "pairs", lambda step, size: (source.vectors[:1].repeat(size, 1), source.texts[:1].repeat(size, 1)))
    said = torch.ones(12, DIM)
    assert math.isfinite(task.loss(3).item())          # all of a step may be of one picture


def test_a_prior_sees_much_noise_mostly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times by 1 - u^2 for an even u: two thirds of the way in the mean, and later than x with the chance sqrt(1 - x)."""
    task = _imagining(prior.Recipe(batch=4000, noises=1, bfloat16=False))
    shown: list[Tensor] = []
    monkeypatch.setattr(task.prior, "clean", lambda noisy, at, texts: shown.append(at) or noisy)
    task.loss(0)
    found = shown[0].double().numpy() / 999
    assert found.min() >= 0
    assert 0.99 < found.max() <= 1
    assert found.mean() == pytest.approx(2 / 3, abs=0.02)
    for at in (0.25, 0.5, 0.75, 0.96):
        assert np.mean(found > at) == pytest.approx(math.sqrt(1 - at), abs=0.03)


def test_a_prior_is_as_wide_as_the_vectors() -> None:
    made = prior.small(256).transformer
    assert made.config.num_attention_heads * made.config.attention_head_dim == 256
    assert sum(each.numel() for each in made.parameters()) == pytest.approx(1.1e6, rel=0.15)
    assert prior.small(DIM).transformer.config.num_attention_heads == 1


def test_the_error_of_a_sketch_is_that_of_its_pixels() -> None:
    source, recipe = Two(), sketch.Recipe(batch=16, bfloat16=False, seed=2)
    task = sketch.Sketching(Layout(DIM, hidden=32), SIDE, source, recipe)
    assert task.loss(3).item() == task.loss(3).item()                 # the same number, the same chance
    assert task.loss(3).item() != task.loss(4).item()
    rows = torch.randint(2, (16,), generator=training.chance(2, 3))
    truth = source.pictures[rows].double() / 127.5 - 1
    last = task.head[2]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(0.25)                                         # the same grey everywhere
    assert task.loss(3).item() == pytest.approx(float((truth - 0.25).square().mean()), rel=1e-5)
    assert task.sketch(source.vectors).unique().tolist() == [round(1.25 * 127.5)]
    with torch.no_grad():
        last.bias.fill_(7)
    assert task.sketch(source.vectors).unique().tolist() == [255]


@pytest.mark.parametrize("side", [4, 16, 32, 36, 64])
def test_a_sketch_has_the_side_of_the_pictures(side: int) -> None:
    task = sketch.Sketching(Layout(DIM, hidden=8), side, Two(side), sketch.Recipe(batch=2))
    found = task.sketch(_unit(3, DIM))
    assert (found.shape, found.dtype) == ((3, side, side, 3), torch.uint8)
    assert task.loss(0).item() > 0


def test_a_sketch_begins_the_same_whatever_was_drawn_before() -> None:
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        heads.append(sketch.Sketching(Layout(DIM, hidden=8), SIDE, Two(), sketch.Recipe(seed=5)).head.state_dict())
    assert all(torch.equal(value, heads[1][name]) for name, value in heads[0].items())


def test_a_layout_learns_to_sketch_two_pictures(tmp_path: Path) -> None:
    source, recipe = Two(), sketch.Recipe(steps=120, batch=8, warmup=5, bfloat16=False)
    task = _sketching(recipe)
    before = _state(task)
    training.train(task, recipe, tmp_path)
    found = task.sketch(source.vectors).int()
    errors = (found[:, None] - source.pictures.int()[None]).abs().float().mean((2, 3, 4))
    assert errors.argmin(1).tolist() == [0, 1]
    assert errors.diagonal().max() < 25
    after = _state(task)
    assert all(not torch.equal(value, after[name]) for name, value in before.items() if name.startswith("layout."))
    assert {name.partition(".")[0] for name in after} == {"layout", "head"}


def test_a_decoder_learns_to_draw_two_pictures(tmp_path: Path) -> None:
    source, recipe = Two(), decoder.Recipe(steps=40, batch=8, warmup=5, learning_rate=5e-3, average=0.9, bfloat16=False)
    task = decoder.Drawing(_decoder(), source, recipe)
    training.train(task, recipe, tmp_path)
    made = task.averaged
    found = made.draw(source.vectors, made.noise(2, 0), steps=5).int()
    errors = (found[:, None] - source.pictures.int()[None]).abs().float().mean((2, 3, 4))
    assert errors.argmin(1).tolist() == [0, 1]
    assert errors.diagonal().max() < 25
    swapped = made.draw(source.vectors.flip(0), made.noise(2, 0), steps=5).int()         # it listens to the vector, not to the noise
    assert (swapped[:, None] - source.pictures.int()[None]).abs().float().mean((2, 3, 4)).argmin(1).tolist() == [1, 0]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"warmup": -1}])
@pytest.mark.parametrize("kind", [decoder.Recipe, prior.Recipe, sketch.Recipe])
def test_recipes_are_checked(kind: Callable[..., Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        kind(**wrong)


# --- what is learnt from ---

def test_vectors_are_computed_once_and_are_the_models(pair: Pair, tmp_path: Path) -> None:
    shown = np.stack([np.asarray(noise(at, SIDE)) for at in range(5)])
    done: list[int] = []
    made = Vectors(shown, pair, tmp_path / "v.npy", done.append)
    assert (sum(done), len(made)) == (0, 5)      # nobody has asked for them
    images, vectors = made.take(torch.tensor([3, 3, 0]))
    assert (images.numpy() == shown[[3, 3, 0]]).all()
    assert np.abs(vectors.numpy() - pair.embed_images(list(shown[[3, 3, 0]]))).max() < 1e-3
    assert sum(done) == 5
    assert (Vectors(shown, pair, tmp_path / "v.npy", done.append).vectors == made.vectors).all()
    assert sum(done) == 5


def test_vectors_of_other_pictures_are_not_taken_for_these(pair: Pair, tmp_path: Path) -> None:
    """A broken picture was mended meanwhile: there is one more than there was."""
    shown = np.stack([np.asarray(noise(at, SIDE)) for at in range(5)])
    assert len(Vectors(shown[1:], pair, tmp_path / "v.npy").vectors) == 4
    vectors = Vectors(shown, pair, tmp_path / "v.npy").take(torch.arange(5))[1]
    assert np.abs(vectors.numpy() - pair.embed_images(list(shown))).max() < 1e-3


def test_two_clips_may_share_a_pool(pair: Pair, tmp_path: Path) -> None:
    other = Pair(copy.deepcopy(pair.model), pair.processor, pair.kind)
    with torch.no_grad():
        other.model.visual_projection.weight.normal_()
    Pool(tmp_path, pair, 1, processes=1)
    shared = Pool(tmp_path, other, 1, processes=1)
    assert np.abs(shared.vectors - other.embed_images(list(np.asarray(shared.pictures)))).max() < 1e-2


def test_pairs_are_of_pictures_with_what_is_said_of_them(pair: Pair, tmp_path: Path) -> None:
    texts = ["a red star", "a blue circle", "밤", "a large star", "a small circle", "낮"]         # two rounds of three
    shown = np.stack([np.asarray(noise(at, SIDE)) for at in range(3)])
    done: list[int] = []
    own = Said(Vectors(shown, pair, tmp_path / "v.npy"), texts, pair, 3, done.append)
    assert sum(done) == 6
    seen, said = own.pairs(0, 40)
    assert seen.shape == said.shape == (40, DIM)
    assert seen.dtype == said.dtype == torch.float32
    assert said.norm(dim=1).numpy() == pytest.approx(1, abs=2e-3)
    images, words = pair.embed_images(list(shown)), pair.embed(texts)
    rows = (said.numpy() @ words.T).argmax(1)
    assert set(rows.tolist()) == set(range(6))
    assert np.abs(said.numpy() - words[rows]).max() < 0.03                  # read with half the digits
    assert np.abs(seen.numpy() - images[rows % 3]).max() < 1e-3             # each with the picture that it is said of
    again = own.pairs(0, 40)
    assert all(torch.equal(*each) for each in zip(again, (seen, said), strict=True))
    assert not torch.equal(said, own.pairs(1, 40)[1])


def test_texts_are_read_in_parts_and_each_keeps_its_place(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_AT_ONCE", 2)
    shown = np.stack([np.asarray(noise(at, SIDE)) for at in range(5)])
    texts, done = [f"a star and {at} circles" for at in range(5)], []       # type: list[str], list[int]
    own = Said(Vectors(shown, pair, tmp_path / "v.npy"), texts, pair, 0, done.append)
    assert done == [2, 2, 1]
    assert np.abs(own.said.float().numpy() - pair.embed(texts)).max() < 0.03


def test_each_scene_has_texts_of_its_own(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the scenes, round by round; most say everything, in either language."""
    pool = Pool(tmp_path, pair, 8, processes=1)
    told: list[tuple[Any, str, bool]] = []
    texts: list[str] = []

    def noted(of: Any, language: str, everything: bool) -> str:
        told.append((of, language, everything))
        return f"text {len(told)}"

    made = Said
    with monkeypatch.context() as patched:
        patched.setattr(pairs, "whole", lambda scene: scene)
        patched.setattr(pairs, "say", lambda scene, _, language: noted(scene, language, True))
        patched.setattr(pairs, "hint", lambda scene, _, language: ("what", noted(scene, language, False)))
        patched.setattr(pairs, "Said", lambda vectors, found, *more: texts.extend(found) or made(vectors, found, *more))
        assert len(scenes(pool, pair, 3).said) == 2 * 64
    assert texts == [f"text {at}" for at in range(1, 129)]
    assert [of for of, _, _ in told] == list(pool.made) * 2
    assert {language for _, language, _ in told} == {"en", "ko"}
    assert 0.65 < np.mean([everything for _, _, everything in told]) < 0.95
    one, same, other = (scenes(pool, pair, seed) for seed in (3, 3, 4))
    assert torch.equal(one.said, same.said)
    assert not torch.equal(one.said, other.said)
    seen, _ = one.pairs(7, 12)
    every = {tuple(row) for row in pool.vectors.astype(np.float32).tolist()}
    assert {tuple(row) for row in seen.tolist()} <= every


# --- from start to finish ---

class Judge:
    """In place of the network that reads scenes off pictures: it sees the right place, and no things."""

    seen = 0

    def observe(self, pictures: Any) -> list[Claim]:
        Judge.seen += len(pictures)
        assert all(each.dtype == np.uint8 and each.shape == (SIDE, SIDE, 3) for each in pictures)
        return [Claim(made.background, made.time, (), 0) for _, made in scenes_of("held-out", len(pictures))]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    Judge.seen = 0
    monkeypatch.setattr("madang.multimodal.unclip.job.Observer", Judge)
    monkeypatch.setattr("madang.multimodal.unclip.job._LOOKED_AT", 12)       # of 64, to be sooner done


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Forty pictures, dark and light; one is broken."""
    place = tmp_path / "photos"
    place.mkdir()
    for at in range(40):
        light = bool(at % 2)
        (place / f"{at:02}.png").write_bytes(coded(noise(at, 40, (250, 250, 250) if light else (5, 5, 5))))
        (place / f"{at:02}.txt").write_text("a light wall" if light else "a dark wall")
    (place / "broken.png").write_bytes(b"broken")
    (place / "broken.txt").write_text("nothing")
    return place


def _wish(out: Path, clip: Path, **more: Any) -> job.Wish:
    return job.Wish(out, clip=str(clip), prior=prior.Recipe(steps=3, batch=4, warmup=1, threads=1),
                    decoder=decoder.Recipe(steps=2, batch=4, warmup=1, threads=1),
                    layout=sketch.Recipe(steps=3, batch=4, warmup=1, threads=1), groups=2, every=2, small=SMALL, **more)


def test_a_small_one_from_nothing_on_scenes(judged: None, clip_folder: Path, pair: Pair, tmp_path: Path) -> None:
    wish = _wish(tmp_path / "out", clip_folder, pool=tmp_path / "pool")
    said: list[str] = []
    seen: list[tuple[str, int]] = []

    def tell(part: job.Part) -> Callable[[Told], None]:
        return lambda now: seen.append((part, now.step))

    found = job.run(wish, tell=tell, say=said.append)
    assert seen == [("layout", 1), ("layout", 2), ("layout", 3), ("prior", 1), ("prior", 2), ("prior", 3), ("decoder", 1), ("decoder", 2)]
    assert [line.partition(":")[0] for line in said] == [
        "painting 16 scenes, and their vectors (once), and reading what is said of them", "layout", "prior", "decoder", "saving"]
    assert found.scores.keys() == {"cosine", "error", "similarity", "background", "time", "count", "shape", "colour", "size", "position"}
    assert {name: found.scores[name] for name in ("background", "time", "count", "shape", "colour", "size", "position")} == {
        "background": 1, "time": 1, "count": 0, "shape": 0, "colour": 0, "size": 0, "position": 0}
    assert found.broken == []
    assert Judge.seen == 5 * 12                     # after two and three steps of layout and prior, and two of the decoder
    inside = tmp_path / "out" / "training"
    for part, steps in (("prior", [2, 3]), ("layout", [2, 3]), ("decoder", [2])):
        assert [json.loads(line)["step"] for line in (inside / part / HISTORY).read_text().splitlines()] == steps
        assert "<svg" in (inside / part / "curves.html").read_text()
        assert (inside / part / CHECKPOINT).stat().st_size > 1000
    with Image.open(inside / "decoder" / "sheet.png") as sheet:
        assert sheet.size[0] > 6 * 128
    assert len(list((tmp_path / "pool").glob("*.npy"))) == 2
    assert not list(inside.glob("*.npy"))

    made = load(tmp_path / "out")
    assert made.clip == "clip"
    beside = load_pair(str(tmp_path / "out" / "clip"))
    assert np.allclose(beside.embed(["a star"]), pair.embed(["a star"]))
    kept_ = torch.load(inside / "decoder" / CHECKPOINT, weights_only=True)["modules"]["averaged unet"]
    assert all(torch.equal(value, kept_[name]) for name, value in made.decoder.unet.state_dict().items())     # the mean draws
    model = DiffusersProvider(Local(device="cpu")).image_generator(str(tmp_path / "out"))
    assert isinstance(model, UnclipImages)
    assert len(model.draw("a red star", DrawOptions(count=2, steps=2))) == 2

    seen.clear()
    before = (tmp_path / "out" / "decoder" / "diffusion_pytorch_model.safetensors").read_bytes()
    job.run(wish, tell=tell)                   # it is done already
    assert seen == []
    assert (tmp_path / "out" / "decoder" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    with pytest.raises(Conflict, match=r"groups 2 \(now 3\)"):
        job.run(replace(wish, groups=3))


def test_the_whole_training_goes_on_exactly_where_it_was(clip_folder: Path, captioned: Path, tmp_path: Path) -> None:
    wish = replace(_wish(tmp_path / "whole", clip_folder, data=str(captioned)), every=1)
    job.run(wish)
    for stop in (("layout", 2), ("prior", 2), ("decoder", 2)):
        def tell(part: job.Part, stop: tuple[str, int] = stop) -> Callable[[Told], None]:
            def told(now: Told) -> None:
                if (part, now.step) == stop:
                    raise KeyboardInterrupt
            return told

        with pytest.raises(KeyboardInterrupt):
            job.run(replace(wish, out=tmp_path / "cut"), tell=tell)
        assert not (tmp_path / "cut" / "model_index.json").exists()
    job.run(replace(wish, out=tmp_path / "cut"))
    for name in ("prior/diffusion_pytorch_model.safetensors", "decoder/diffusion_pytorch_model.safetensors", "decoder/layout.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_the_decoder_begins_with_the_layout_that_was_learnt(clip_folder: Path, captioned: Path, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether that was just now, or before it was stopped. The prior, which looks through it meanwhile, changes nothing."""
    begun: list[dict[str, Tensor]] = []
    made = decoder.Drawing

    def drawing(draws: Decoder, *more: Any) -> decoder.Drawing:
        begun.append({name: value.clone() for name, value in draws.layout.state_dict().items()})
        assert all(each.requires_grad for each in draws.layout.parameters())         # it learns on with the decoder
        task = made(draws, *more)
        begun.append({name: value.clone() for name, value in task.averaged.layout.state_dict().items()})
        return task

    monkeypatch.setattr(decoder, "Drawing", drawing)
    wish = _wish(tmp_path / "out", clip_folder, data=str(captioned))

    def tell(part: job.Part) -> Callable[[Told], None]:
        def told(now: Told) -> None:
            if part == "decoder":
                raise KeyboardInterrupt
        return told

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            job.run(wish, tell=tell)
    learnt = torch.load(tmp_path / "out" / "training" / "layout" / CHECKPOINT, weights_only=True)
    assert learnt["step"] == 3
    first = decoder.small(DIM, SIDE, channels=(32, 32), seed=0).layout.state_dict()
    assert any(not torch.equal(value, first[name]) for name, value in learnt["modules"]["layout"].items())
    assert len(begun) == 4
    for each in begun:
        assert all(torch.equal(value, each[name]) for name, value in learnt["modules"]["layout"].items())


def test_a_small_one_on_ones_own_pictures(clip_folder: Path, captioned: Path, tmp_path: Path) -> None:
    wish = _wish(tmp_path / "out", clip_folder, data=str(captioned))
    found = job.run(wish)
    assert found.scores.keys() == {"cosine", "error", "similarity"}
    assert 0 < found.scores["error"] < 1
    assert [name for name, _ in found.broken] == ["broken.png"]
    assert (tmp_path / "out" / "training" / "decoder" / "sheet.png").stat().st_size > 1000
    model = DiffusersProvider(Local(device="cpu")).image_generator(str(tmp_path / "out"))
    assert picture(model.draw("a dark wall", DrawOptions(steps=2))[0].data).shape == (SIDE, SIDE, 3)
    job.run(wish)                               # the pictures are read again, the vectors are not computed again


def test_a_siglip_may_be_what_it_stands_on(siglip_folder: Path, captioned: Path, tmp_path: Path) -> None:
    job.run(_wish(tmp_path / "out", siglip_folder, data=str(captioned)))
    assert load(tmp_path / "out").decoder.dim == 32
    assert UnclipImages("x", tmp_path / "out", seer_of).draw("the house", DrawOptions(steps=1))


def test_what_cannot_be_trained_is_told(clip_folder: Path, captioned: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for name in ("00.png", "00.txt", "01.png", "01.txt"):
        shutil.copy(captioned / name, few / name)
    with pytest.raises(InvalidInput, match="too few to hold some back"):
        job.run(_wish(tmp_path / "out", clip_folder, data=str(few)))
    with pytest.raises(NotFound, match="there is no"):
        job.run(_wish(tmp_path / "out", clip_folder, data=str(tmp_path / "none")))
    with pytest.raises(NotFound, match="nowhere"):
        job.run(_wish(tmp_path / "out", tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="groups"):
        job.run(replace(_wish(tmp_path / "out", clip_folder), groups=0))


# --- the command line, and the workspace ---

@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The commands make models of five million parameters; these are the same of less."""
    made = decoder.small
    monkeypatch.setattr(decoder, "small", lambda dim, side, **more: made(dim, side, **{"channels": (32, 32), **more}))
    return


def test_training_from_the_command_line(small: None, clip_folder: Path, captioned: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "unclip", "out", "--clip", str(clip_folder), "--data", str(captioned), "--prior-steps", "2",
               "--layout-steps", "3", "--steps", "2", "--batch", "4", "--every", "2", "--seed", "4"]
    code = entry([*command, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["folder"], [each["name"] for each in found["broken"]]) == (1, "out", ["broken.png"])
    assert found["scores"].keys() == {"cosine", "error", "similarity"}
    recipes = {part: torch.load(tmp_path / "out" / "training" / part / CHECKPOINT, weights_only=True)["recipe"] for part in job.PARTS}
    assert {part: (each["steps"], each["seed"]) for part, each in recipes.items()} == {"prior": (2, 4), "layout": (3, 4), "decoder": (2, 4)}
    assert recipes["decoder"]["batch"] == 4
    assert entry([*command, "--steps", "3"]) == 1
    assert "steps 2 (now 3)" in capsys.readouterr().err
    name = f"diffusers/{tmp_path}/out"
    assert entry(["image", "draw", "a dark wall", "--model", name, "--seed", "3", "--steps", "2", "-o", "a.png"]) == 0
    assert capsys.readouterr().out == f"a.png: drawn by {name}\n"
    for wrong, said in ((["--data", "none"], "there is no none"), (["--batch", "1"], "--batch"), (["--clip", "./none"], "no folder")):
        assert entry(["train", "unclip", "other", *(["--clip", str(clip_folder)] if "--clip" not in wrong else []), *wrong]) != 0
        assert said in capsys.readouterr().err


def test_the_command_asks_for_what_the_recipes_say() -> None:
    told = {option.name: option.default for option in train.commands["unclip"].params}
    wish = job.Wish(Path("out"))
    assert (told["prior_steps"], told["layout_steps"], told["steps"]) == (wish.prior.steps, wish.layout.steps, wish.decoder.steps)
    assert (told["batch"], told["groups"], told["every"], told["data"]) == (wish.decoder.batch, wish.groups, wish.every, wish.data)


def test_drawing_from_the_command_line(unclip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["image", "draw", "a <b>red</b> star 🦊", "--model", f"diffusers/{unclip_folder}", "--seed", "3", "--steps", "12"]
    assert entry([*command, "--strip", "s.png", "-o", "a.png"]) == 0
    assert capsys.readouterr().out == f"a.png: drawn by diffusers/{unclip_folder}\ns.png: step by step\n"
    first = Path("a.png").read_bytes()
    with Image.open("s.png") as strip:
        assert strip.size[0] > 10 * 64
    assert entry([*command, "-o", "b.jpg", "--count", "2", "--size", "64x48", "--guidance", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["seed"]) == (["b.jpg", "b-2.jpg"], 3)
    for name in found["files"]:
        with Image.open(name) as made:
            assert (made.size, made.format) == ((64, 48), "JPEG")
    assert entry([*command, "-o", "c.png"]) == 0
    assert Path("c.png").read_bytes() == first
    capsys.readouterr()
    for wrong, said in ((["-o", "a.gif"], "ends in none of"), (["--size", "9x9"], "size must be"), (["--steps", "0"], "--steps"),
                        (["--guidance", "101"], "--guidance"), (["--seed", "-1"], "--seed"), (["--seed", str(2**63)], "seed must be"),
                        (["--count", "11"], "--count"), (["--model", "diffusers/./none"], "no folder")):
        assert entry([*command, *wrong]) != 0
        assert said in capsys.readouterr().err
    assert entry(["image", "draw", " ", "--model", f"diffusers/{unclip_folder}"]) == 1
    assert "prompt is empty" in capsys.readouterr().err


def test_a_strip_is_drawn_whether_answers_are_kept_or_not(unclip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADANG_CACHE_MODE", "on")
    for _ in range(2):
        assert entry(["image", "draw", "a star", "--model", f"diffusers/{unclip_folder}", "--seed", "3", "--steps", "2", "--strip", "s.png"]) == 0


def test_a_cache_knows_a_model_that_was_trained_again(unclip_folder: Path, clip_folder: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADANG_CACHE_MODE", "on")
    shutil.copytree(unclip_folder, tmp_path / "drawer")
    found = []
    for turn in range(2):
        with madang.open(tmp_path / "ws") as ws:
            found.append(ws.draw_image("a star", model=f"diffusers/{tmp_path}/drawer", options=DrawOptions(seed=1, steps=1))[0].data)
        shutil.copytree(checkpoints.save_unclip(tmp_path / f"other-{turn}", clip_folder, seed=9), tmp_path / "drawer",
                        dirs_exist_ok=True)
    assert found[0] != found[1]


def test_a_workspace_draws_with_the_model_of_its_settings(unclip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "madang.toml").write_text(f'[models]\ndraw = "diffusers/{unclip_folder}"\n')
    with madang.open(tmp_path) as ws:
        (found,) = ws.draw_image("a star", options=DrawOptions(seed=3, steps=2))
        again = ws.draw_image("a star", model=f"diffusers/{unclip_folder}", options=DrawOptions(seed=3, steps=2))
    assert found.data == again[0].data


def test_without_diffusers_it_says_what_to_install(unclip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = DiffusersProvider(Local(device="cpu")).image_generator(str(unclip_folder))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingDependency, match=r'pip install "madang\[diffusers\]"'):
        model.draw("a star")
