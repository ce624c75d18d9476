"""Bytes that somebody sent to a picture in RGB: what is broken, enormous or no picture is refused early."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from madang.base.errors import InvalidInput, Unreadable
from madang.models.protocol import Picture

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 40_000_000  # 120 MB in RGB
MAX_BYTES = 64 * 1024 * 1024
_LONGEST = 4                   # times the shorter edge: more is cut off before anything is made larger
_QUIET = threading.Lock()
# What Pillow decodes itself or by the formats' own libraries; nothing that starts a program (EPS) or reads other files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")

# Of the pictures that CLIP was trained with (Radford et al. 2021; published with its weights).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def opened(data: bytes, *, name: str = "the picture", least_side: int = 0, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in RGB, turned as its EXIF says, transparent parts on white; of an animation the first frame.

    `least_side`: enough for the caller; a larger JPEG is decoded smaller, which costs a fraction.

    Raises `Unreadable`, naming what is wrong.
    """
    return measured(data, name=name, least_side=least_side, max_pixels=max_pixels)[0]


def measured(data: bytes, *, name: str = "the picture", least_side: int = 0,
             max_pixels: int = MAX_PIXELS) -> tuple[Image.Image, tuple[int, int]]:
    """As `opened`, and the width and height that the picture has in its file, turned as well."""
    from PIL import Image, UnidentifiedImageError

    if len(data) > MAX_BYTES:
        raise Unreadable(f"{name} has {len(data):,} bytes; at most {MAX_BYTES:,} are read.", remedy="Make it smaller.")
    try:
        Image.init()  # else only the commonest formats are known
        with _QUIET, warnings.catch_warnings():  # of sizes, which are checked below; threads share the filters
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
        if width * height > max_pixels:
            raise Unreadable(
                f"{name} is {width:,} x {height:,} pixels; at most {max_pixels:,} in all are decoded.",
                remedy="Make it smaller.",
            )
        if least_side and picture.format == "JPEG":
            picture.draft("RGB", (least_side, least_side))
        picture.load()
        turned = _turned(picture)
        lies = turned.size != picture.size and turned.size == picture.size[::-1]
        return _rgb(turned), (height, width) if lies else (width, height)
    except Unreadable:
        raise
    except Image.DecompressionBombError as error:  # raised before the size can be asked for
        count = re.search(r"\d+", str(error))
        size = f"{int(count[0]):,}" if count else "too many"
        raise Unreadable(
            f"{name} has {size} pixels; at most {max_pixels:,} in all are decoded.", remedy="Make it smaller."
        ) from None
    except UnidentifiedImageError:
        raise Unreadable(
            f"{name} is no picture of a kind that is read ({', '.join(each.lower() for each in FORMATS)})."
        ) from None
    except Exception as error:
        raise Unreadable(f"{name} is damaged: {str(error) or type(error).__name__}.") from None


def centred(picture: Image.Image) -> Image.Image:
    """The middle of a picture that is far longer than wide: what a model sees of it, and never gigabytes."""
    width, height = picture.size
    most = _LONGEST * min(width, height)
    if max(width, height) <= most:
        return picture
    left, top = max(0, width - most) // 2, max(0, height - most) // 2
    return picture.crop((left, top, left + min(width, most), top + min(height, most)))


def _turned(picture: Image.Image) -> Image.Image:
    """As its EXIF says; where that is damaged, as it is."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture


def _rgb(picture: Image.Image) -> Image.Image:
    from PIL import Image

    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I;16"):  # Pillow would cut off all above 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):       # of any range: from the least value to the greatest
        values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0.0, neginf=0.0)
        if picture.mode == "I" and values.min() >= 0 and values.max() <= 65_535:
            return Image.fromarray((values / 256).astype(np.uint8)).convert("RGB")
        low, high = float(values.min()), float(values.max())
        return Image.fromarray(((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)).convert("RGB")
    if "A" in picture.mode or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return picture.convert("RGB")


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """How a model wants its pictures: the shorter edge brought to `edge` pixels, the middle cut out, values shifted and
    scaled. From preprocessor_config.json of Hugging Face's formats."""

    edge: int = 224
    width: int = 224
    height: int = 224
    mean: tuple[float, ...] = CLIP_MEAN
    deviation: tuple[float, ...] = CLIP_DEVIATION
    squeezed: bool = False  # both edges are brought to size, whatever that does to the proportions, as SigLIP does

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> PictureSettings:
        """From the parsed file; what it does not say is CLIP's."""
        found = found.get("image_processor", found)
        size, crop = _size(found.get("size", 224)), _size(found.get("crop_size", found.get("size", 224)))
        squeezed = (
            "shortest_edge" not in size and size.get("height") is not None and not found.get("do_center_crop", False)
        )
        edge = int(size.get("shortest_edge") or size.get("height") or 224)
        square = crop.get("shortest_edge") or edge
        return cls(
            edge,
            int(crop.get("width") or square),
            int(crop.get("height") or square),
            tuple(found.get("image_mean", CLIP_MEAN)),
            tuple(found.get("image_std", CLIP_DEVIATION)),
            squeezed,
        )


def _size(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {"shortest_edge": found}


def prepared(pictures: Sequence[Picture], settings: PictureSettings) -> NDArray[np.float32]:
    """RGB pictures of any sizes as a model takes them: float32 (n, 3, height, width).

    Raises `InvalidInput` for what is not uint8 (height, width, 3).
    """
    made = np.empty((len(pictures), settings.height, settings.width, 3), np.uint8)
    for at, picture in enumerate(pictures):
        made[at] = shaped(checked_picture(picture, at), settings)
    mean, deviation = (np.asarray(each, np.float32) for each in (settings.mean, settings.deviation))
    return np.ascontiguousarray(
        (made.astype(np.float32) * (1 / (255 * deviation)) - mean / deviation).transpose(0, 3, 1, 2)
    )


def checked_picture(picture: Picture, at: int) -> Picture:
    """The picture. Raises `InvalidInput` where it is not uint8 (height, width, 3)."""
    if getattr(picture, "dtype", None) != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InvalidInput(
            f"pictures[{at}]: uint8 of the shape (height, width, 3) is expected, not "
            f"{getattr(picture, 'dtype', type(picture).__name__)} {getattr(picture, 'shape', '')}."
        )
    return picture


def shaped(picture: Picture, settings: PictureSettings) -> NDArray[np.uint8]:
    """A picture uint8 (height, width, 3) of a model's size."""
    height, width = picture.shape[:2]
    if (height, width) == (settings.height, settings.width) and settings.edge in (height, width):
        return picture
    from PIL import Image

    whole = Image.fromarray(picture)
    if settings.squeezed:
        size = (settings.width, settings.height)
    else:
        whole = centred(whole)
        short = min(whole.size)
        size = (settings.edge * whole.width // short, settings.edge * whole.height // short)
    found = whole.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - settings.width) // 2, (size[1] - settings.height) // 2
    return np.asarray(found.crop((left, top, left + settings.width, top + settings.height)))
