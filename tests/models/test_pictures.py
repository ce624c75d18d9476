"""Pictures that somebody sent: every kind that is read, what is broken or enormous, and the shape a model wants."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from madang.base.errors import InvalidInput, Unreadable
from madang.models.pictures import (
    CLIP_DEVIATION,
    CLIP_MEAN,
    FORMATS,
    MAX_BYTES,
    MAX_PIXELS,
    PictureSettings,
    opened,
    prepared,
    shaped,
)

LOSSLESS = ("PNG", "BMP", "TIFF", "GIF")


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def corners() -> Image.Image:
    """Red, green, blue and black, clockwise from the top left; 24 by 16."""
    found = np.zeros((16, 24, 3), np.uint8)
    found[:8, :12] = (255, 0, 0)
    found[:8, 12:] = (0, 255, 0)
    found[8:, 12:] = (0, 0, 255)
    return Image.fromarray(found)


def values(data: bytes, **options: Any) -> NDArray[np.int64]:
    found = opened(data, **options)
    assert found.mode == "RGB"
    return np.asarray(found).astype(np.int64)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_that_says(width: int, height: int) -> bytes:
    """A small file with the header of an RGB picture of that size."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(bytes(5000))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_exact_kinds_are_read_exactly(kind: str) -> None:
    np.testing.assert_array_equal(values(saved(corners(), kind)), np.asarray(corners()))


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {"quality": 95, "subsampling": 0}), ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
    ("WEBP", {"quality": 95}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"}),
    ("PNG", {"optimize": True}), ("MPO", {"quality": 95, "subsampling": 0}),
])
def test_other_kinds_are_read_closely(kind: str, options: dict[str, Any]) -> None:
    assert np.abs(values(saved(corners(), kind, **options)) - np.asarray(corners())).mean() < 12


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "green", "blue")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(values(data), np.full((5, 6, 3), (255, 0, 0)))


def test_cmyk() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(values(saved(red, "JPEG", quality=95)) - (255, 0, 0)).max() < 12
    assert np.abs(values(saved(red, "TIFF")) - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_gradient_of_16_bits_stays_a_gradient(kind: str) -> None:
    gradient = np.arange(0, 65536, 64, dtype=np.uint16).reshape(4, 256)
    found = values(saved(Image.fromarray(gradient), kind))
    assert np.abs(found - (gradient[..., None] / 257)).max() <= 1
    assert (np.diff(found[..., 0].ravel()) >= 0).all()
    assert len(np.unique(found)) == 256


def test_16_bits_of_the_other_order_of_bytes() -> None:
    gradient = np.arange(0, 65536, 256, dtype=np.uint16).reshape(1, 256)
    data = saved(Image.frombytes("I;16B", (256, 1), gradient.astype(">u2").tobytes()), "TIFF")
    assert np.abs(values(data)[0, :, 0] - np.arange(256)).max() <= 1


def test_floats_are_stretched() -> None:
    data = saved(Image.fromarray(np.linspace(-3, 5, 256, dtype=np.float32).reshape(1, 256)), "TIFF")
    assert np.abs(values(data)[0, :, 1] - np.arange(256)).max() <= 1
    flat = saved(Image.fromarray(np.full((2, 2), 7, np.float32)), "TIFF")
    assert values(flat).shape == (2, 2, 3)


@pytest.mark.parametrize(("picture", "options", "expected"), [
    (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), {}, (255, 255, 255)),
    (Image.new("RGBA", (3, 2), (10, 20, 30, 255)), {}, (10, 20, 30)),
    (Image.new("RGBA", (3, 2), (0, 0, 200, 51)), {}, (204, 204, 244)),     # a fifth of it, four of white
    (Image.new("LA", (3, 2), (10, 0)), {}, (255, 255, 255)),
    (Image.new("LA", (3, 2), (10, 255)), {}, (10, 10, 10)),
    (Image.new("L", (3, 2), 77), {}, (77, 77, 77)),
    (Image.new("L", (3, 2), 77), {"transparency": 77}, (255, 255, 255)),
    (Image.new("L", (3, 2), 77), {"transparency": 78}, (77, 77, 77)),
    (Image.new("1", (3, 2), 1), {}, (255, 255, 255)),
    (Image.new("RGB", (3, 2), (10, 20, 30)), {"transparency": (10, 20, 30)}, (255, 255, 255)),
    (Image.new("RGB", (3, 2), (10, 20, 30)), {"transparency": (10, 20, 31)}, (10, 20, 30)),
])
def test_transparent_parts_are_white(picture: Image.Image, options: dict[str, Any], expected: tuple[int, ...]) -> None:
    np.testing.assert_allclose(values(saved(picture, "PNG", **options)), np.full((2, 3, 3), expected), atol=1)


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
@pytest.mark.parametrize("transparent", [None, 0, 1])
def test_palettes(kind: str, transparent: int | None) -> None:
    picture = Image.new("P", (4, 1))
    picture.putpalette([200, 10, 20, 30, 40, 250])
    picture.putdata([0, 1, 1, 0])
    colours = [(200, 10, 20), (30, 40, 250)]
    if transparent is not None:
        colours[transparent] = (255, 255, 255)
    data = saved(picture, kind, **({} if transparent is None else {"transparency": transparent}))
    assert values(data)[0].tolist() == [list(colours[at]) for at in (0, 1, 1, 0)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "clockwise"), [  # colours of the corners, clockwise from the top left
    (1, "rgbk"), (2, "grkb"), (3, "bkrg"), (4, "kbgr"), (5, "rkbg"), (6, "krgb"), (7, "bgrk"), (8, "gbkr"),
])
def test_pictures_are_turned_as_their_exif_says(kind: str, orientation: int, clockwise: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = values(saved(corners(), kind, exif=exif))
    assert found.shape == ((16, 24, 3) if orientation < 5 else (24, 16, 3))
    names = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "k": (0, 0, 0)}
    for (row, column), name in zip([(2, 2), (2, -3), (-3, -3), (-3, 2)], clockwise, strict=True):
        assert np.abs(found[row, column] - names[name]).max() < 60, (orientation, row, column)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"nonsense", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08", b"MM\0*\xff\xff\xff\xff"])
def test_odd_exif_costs_nobody_the_picture(kind: str, exif: bytes) -> None:
    data = saved(corners(), kind, exif=(b"Exif\0\0" if kind == "JPEG" else b"") + exif)
    assert values(data).shape == (16, 24, 3)


@given(st.integers(0, 700))
def test_a_large_jpeg_is_decoded_no_smaller_than_asked(least: int) -> None:
    found = opened(saved(Image.new("RGB", (640, 400), "red"), "JPEG"), least_side=least)
    assert min(found.size) >= min(least, 400)
    assert least == 0 or least > 200 or found.size != (640, 400)
    assert abs(found.width / found.height - 1.6) < 0.05


@pytest.mark.parametrize(("data", "message"), [
    (b"", "is no picture of a kind that is read .*png"),
    (b"a letter to somebody\n" * 40, "is no picture"),
    (b"%PDF-1.7\n", "is no picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n", "is no picture"),
    (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>', "is no picture"),
    (b"P6 2 2 255\n" + bytes(12), "is no picture"),
    (b"\x89PNG\r\n\x1a\n", "cat.png is (damaged|no picture)"),
    (b"\xff\xd8\xff\xe0", "cat.png is (damaged|no picture)"),
])
def test_what_is_no_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        opened(data, name="cat.png")
    assert str(caught.value).startswith("cat.png ")


@pytest.mark.parametrize("kind", ["TGA", "PPM", "ICO", "PCX", "JPEG2000", "DDS", "SGI", "AVIF"])
def test_kinds_beyond_the_list_are_refused(kind: str) -> None:
    with pytest.raises(Unreadable, match="is no picture of a kind that is read"):
        opened(saved(corners(), kind))


def test_every_kind_on_the_list_is_tried() -> None:
    """One that Pillow does not know would make all that come after it fail."""
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


@pytest.mark.parametrize(("width", "height", "said"), [
    (50_000, 50_000, "has 2,500,000,000"), (8000, 7000, "is 8,000 x 7,000"), (15_000, 12_000, "has 180,000,000"),
    (1, MAX_PIXELS + 1, f"is 1 x {MAX_PIXELS + 1:,}"),
])
def test_an_enormous_picture_is_refused_before_it_is_decoded(width: int, height: int, said: str) -> None:
    started = time.perf_counter()
    with pytest.raises(Unreadable, match=f"cat.png {said} pixels; at most 40,000,000"):
        opened(png_that_says(width, height), name="cat.png")
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_the_limit_of_pixels_is_the_last_that_is_read(kind: str) -> None:
    data = saved(corners(), kind)
    assert opened(data, max_pixels=24 * 16).size == (24, 16)
    with pytest.raises(Unreadable, match="24 x 16 pixels; at most 383 in all"):
        opened(data, max_pixels=24 * 16 - 1)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(Unreadable, match=r"has 67,108,865 bytes; at most 67,108,864"):
        opened(saved(corners(), "PNG").ljust(MAX_BYTES + 1, b"\0"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_half_a_picture_is_damaged(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    with pytest.raises(Unreadable, match=r"^cat is damaged: "):
        opened(data[:len(data) // 2], name="cat")


def test_no_beginning_of_a_png_is_half_a_picture() -> None:
    """A few bytes at the end are not needed; before those nothing is made up."""
    data = saved(corners(), "PNG")
    refused = 0
    for end in range(len(data) + 1):
        try:
            found = values(data[:end])
        except Unreadable:
            refused += 1
        else:
            np.testing.assert_array_equal(found, np.asarray(corners()))
    assert len(data) - 30 < refused < len(data)


@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]), st.data())
def test_a_corrupt_picture_is_a_picture_or_unreadable(kind: str, data: st.DataObject) -> None:
    whole = bytearray(saved(corners(), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at:at + data.draw(st.integers(1, 3))] = data.draw(st.binary(max_size=4))
        whole = whole or bytearray(b"\0")
    try:
        found = opened(bytes(whole), max_pixels=1_000_000)
    except Unreadable as error:
        assert str(error).startswith("the picture ")  # noqa: PT017
    else:
        assert found.mode == "RGB"
        assert found.width * found.height <= 1_000_000


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0",
                                                 b"MM\0*", b"RIFF\x20\0\0\0WEBPVP8 "]))
def test_random_bytes_are_a_picture_or_unreadable(data: bytes, start: bytes) -> None:
    try:
        assert opened(start + data, max_pixels=1_000_000).mode == "RGB"
    except Unreadable as error:
        assert "the picture " in str(error)  # noqa: PT017


CLIP = {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224}
SIGLIP = {"do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.5, 0.5],
          "image_processor_type": "SiglipImageProcessor", "image_std": [0.5, 0.5, 0.5], "resample": 3,
          "rescale_factor": 0.00392156862745098, "size": {"height": 384, "width": 256}}
HALF = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("found", "expected"), [
    ({}, PictureSettings()),
    (CLIP, PictureSettings(224, 224, 224, CLIP_MEAN, CLIP_DEVIATION)),
    ({**CLIP, "size": {"shortest_edge": 336}, "crop_size": {"height": 320, "width": 330}},
     PictureSettings(336, 330, 320, CLIP_MEAN, CLIP_DEVIATION)),
    ({"image_processor": CLIP, "processor_class": "CLIPProcessor"}, PictureSettings()),
    ({**CLIP, "size": 256, "crop_size": 224}, PictureSettings(256, 224, 224)),
    ({**CLIP, "size": {"shortest_edge": 256}, "crop_size": 224}, PictureSettings(256, 224, 224)),
    (SIGLIP, PictureSettings(384, 256, 384, HALF, HALF, squeezed=True)),
    ({"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}, PictureSettings(64, 64, 64)),
])
def test_settings_from_published_files(found: dict[str, Any], expected: PictureSettings) -> None:
    assert PictureSettings.of(found) == expected


def noise(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth, so that a wrong place shows."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 / height, columns * 255 / width, (rows + columns) * 7 % 256], -1).astype(np.uint8)


def expected_values(picture: NDArray[np.uint8], settings: PictureSettings) -> NDArray[np.float64]:
    """As Hugging Face's processors do it, in whole numbers and in double precision."""
    height, width = picture.shape[:2]
    short = min(height, width)
    size = ((settings.width, settings.height) if settings.squeezed
            else (settings.edge * width // short, settings.edge * height // short))
    large = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)).astype(np.float64)
    if not settings.squeezed:
        top, left = (size[1] - settings.height) // 2, (size[0] - settings.width) // 2
        large = large[top:top + settings.height, left:left + settings.width]
    return ((large / 255 - settings.mean) / settings.deviation).transpose(2, 0, 1)


@pytest.mark.parametrize("settings", [
    PictureSettings(), PictureSettings(64, 64, 64), PictureSettings(80, 48, 64, HALF, (0.25, 0.5, 1.0)),
    PictureSettings(96, 64, 96, HALF, HALF, squeezed=True),
])
@pytest.mark.parametrize("size", [(300, 400), (400, 300), (224, 224), (64, 64), (64, 48), (31, 17), (500, 333),
                                  (214, 321), (642, 214), (1, 1)])
def test_prepared_is_what_the_definition_says(settings: PictureSettings, size: tuple[int, int]) -> None:
    picture = noise(*size)
    found = prepared([picture], settings)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found[0], expected_values(picture, settings), atol=2e-5)
    expected = expected_values(picture, PictureSettings(settings.edge, settings.width, settings.height, (0, 0, 0), (1, 1, 1),
                                                        settings.squeezed)) * 255
    np.testing.assert_array_equal(shaped(picture, settings), np.rint(expected).transpose(1, 2, 0))


def test_pictures_of_many_sizes_keep_their_order() -> None:
    pictures = [noise(40, 60), noise(64, 64), noise(90, 30)]
    found = prepared(pictures, PictureSettings(64, 64, 64))
    assert found.shape == (3, 3, 64, 64)
    for row, picture in zip(found, pictures, strict=True):
        np.testing.assert_array_equal(row, prepared([picture], PictureSettings(64, 64, 64))[0])
    assert prepared([], PictureSettings()).shape == (0, 3, 224, 224)


def test_a_picture_of_the_right_size_is_left_alone() -> None:
    picture = noise(64, 64)
    np.testing.assert_array_equal(shaped(picture, PictureSettings(64, 64, 64)), picture)
    # Here the edge is larger than what is cut out: the middle is enlarged.
    assert not np.array_equal(shaped(picture, PictureSettings(80, 64, 64)), picture)


@pytest.mark.parametrize("wrong", [
    np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.int64), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
    np.zeros((3, 4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((0, 4, 3), np.uint8), [[[1, 2, 3]]], "cat.png",
    None,
])
def test_what_is_not_rgb_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^pictures\[1\]: uint8 of the shape \(height, width, 3\) is expected"):
        prepared([noise(4, 4), wrong], PictureSettings())
