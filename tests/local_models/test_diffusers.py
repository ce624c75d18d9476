"""Pictures drawn in this process by a pipeline with random weights: sizes, formats, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from madang.base.errors import Corrupt, InvalidInput, NotFound
from madang.base.settings import Local
from madang.models.protocol import DrawOptions, ImageGenerator
from madang.models.providers.diffusers import DiffusersProvider


@pytest.fixture(scope="module")
def draws(pipeline_folder: Path) -> ImageGenerator:
    return DiffusersProvider(Local(device="cpu")).image_generator(str(pipeline_folder))


@pytest.mark.parametrize(("kind", "media_type"), [("", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_pictures_of_the_size_and_kind_asked_for(draws: ImageGenerator, kind: str, media_type: str) -> None:
    found = draws.draw("a red circle", DrawOptions(count=2, size="32x16", quality="low", output_format=kind))
    assert len(found) == 2
    for each in found:
        assert each.media_type == media_type
        with Image.open(BytesIO(each.data)) as picture:
            assert picture.size == (32, 16)
            assert picture.get_format_mimetype() == media_type
    assert found[0].data != found[1].data         # drawn by chance


def test_without_a_size_the_model_has_its_own(draws: ImageGenerator) -> None:
    with Image.open(BytesIO(draws.draw("a", DrawOptions(quality="low"))[0].data)) as picture:
        assert picture.size == (16, 16)


@pytest.mark.parametrize("options", [
    DrawOptions(size="33x16"), DrawOptions(size="big"), DrawOptions(size="99999x99999"), DrawOptions(size="0x8"),
    DrawOptions(count=0), DrawOptions(count=11), DrawOptions(output_format="tiff")])
def test_what_cannot_be_is_refused(draws: ImageGenerator, options: DrawOptions) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        draws.draw("a", options)


def test_nothing_to_draw_and_nobody_who_draws(draws: ImageGenerator, pipeline_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="prompt is empty"):
        draws.draw(" ")
    with pytest.raises(NotFound, match="does not chat"):
        DiffusersProvider().chat_model("x")
    broken = shutil.copytree(pipeline_folder, tmp_path / "broken")
    (broken / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    with pytest.raises(Corrupt, match="cannot be loaded from"):
        DiffusersProvider(Local(device="cpu")).image_generator(str(broken)).draw("a")


# --- Kandinsky 2.2: a prior and a decoder in one pipeline ---

@pytest.fixture(scope="module")
def kandinsky(kandinsky_folder: Path) -> ImageGenerator:
    return DiffusersProvider(Local(device="cpu")).image_generator(str(kandinsky_folder))


ONCE = DrawOptions(size="64x64", steps=2, seed=4)


def test_a_prior_and_a_decoder_draw_as_one(kandinsky: ImageGenerator) -> None:
    """The same seed gives the same picture, alone or with others."""
    (first,), (again,) = (kandinsky.draw("a red circle", ONCE) for _ in range(2))
    assert first.data == again.data
    with Image.open(BytesIO(first.data)) as picture:
        assert picture.size == (64, 64)
    several = kandinsky.draw("a red circle", replace(ONCE, count=3, output_format="webp"))
    assert len({each.data for each in several}) == 3
    assert [each.media_type for each in several] == ["image/webp"] * 3
    pixels = [np.asarray(Image.open(BytesIO(each.data)).convert("RGB")) for each in (
        first, kandinsky.draw("a red circle", replace(ONCE, count=2))[0], kandinsky.draw("a red circle", replace(ONCE, seed=5))[0],
        kandinsky.draw("a blue star at night", ONCE)[0], kandinsky.draw("a red circle", replace(ONCE, count=2))[1])]
    assert (pixels[0] == pixels[1]).all()
    assert (pixels[2] == pixels[4]).all()             # several take the seeds after it
    assert (pixels[0] != pixels[2]).any()
    assert (pixels[0] != pixels[3]).any()             # by way of the prior


@pytest.mark.parametrize(("options", "told"), [
    ({}, {}), ({"steps": 7}, {"num_inference_steps": 7}), ({"quality": "low"}, {"num_inference_steps": 50}),
    ({"quality": "high", "steps": 3}, {"num_inference_steps": 3}), ({"guidance": 1.5}, {"guidance_scale": 1.5}),
    ({"guidance": 0.0}, {"guidance_scale": 0.0}), ({"size": "128x64"}, {"width": 128, "height": 64})])
def test_what_is_asked_for_is_passed_on(kandinsky_folder: Path, options: dict[str, Any], told: dict[str, Any]) -> None:
    """And nothing else: a model has its own ideas of what is usual."""
    model = DiffusersProvider(Local(device="cpu")).image_generator(str(kandinsky_folder))
    pipeline, heard = model._load(), []      # type: ignore[attr-defined]

    class Listening(type(pipeline)):         # type: ignore[misc]
        def __call__(self, prompt: str, *, num_inference_steps: int = 100, **more: Any) -> Any:
            heard.append({**more, **({} if num_inference_steps == 100 else {"num_inference_steps": num_inference_steps})})
            return type("Drawn", (), {"images": [Image.new("RGB", (8, 8))]})

    pipeline.__class__ = Listening
    model.draw("a", DrawOptions(**options))
    assert heard == [told]
    model.draw("a", DrawOptions(**options, seed=9, count=2))
    assert [each.pop("generator").initial_seed() for each in heard[1:]] == [9, 10]
    assert heard[1:] == [told, told]


def test_steps_and_guidance_make_other_pictures(kandinsky: ImageGenerator) -> None:
    found = [kandinsky.draw("a red circle", replace(ONCE, **how))[0].data      # type: ignore[arg-type]
             for how in ({}, {"steps": 3}, {"guidance": 9.0}, {"guidance": 1.0})]
    assert len(set(found)) == 4


def test_a_damaged_prior_is_told(kandinsky_folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(kandinsky_folder, tmp_path / "broken")
    (broken / "prior_prior" / "diffusion_pytorch_model.safetensors").write_bytes(b"no")
    with pytest.raises(Corrupt, match="cannot be loaded from"):
        DiffusersProvider(Local(device="cpu")).image_generator(str(broken)).draw("a", ONCE)
