"""Pictures drawn in this process by a pipeline with random weights: sizes, formats, and what is refused."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

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
