"""What is asked of a model that draws in this process: checked, and made of what it drew. Knows no torch."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

from madang.base.errors import InvalidInput
from madang.models.protocol import Drawing, DrawOptions

_MOST_PIXELS = 2048 * 2048
_MOST_PICTURES, _MOST_STEPS = 10, 1000
_FORMATS = {"": "PNG", "png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


def checked(prompt: str, options: DrawOptions) -> tuple[int, int] | None:
    """Width and height that are asked for, if any. Raises `InvalidInput` naming the field."""
    if not prompt.strip():
        raise InvalidInput("the prompt is empty.", remedy="Say what the picture shall show.")
    if not 1 <= options.count <= _MOST_PICTURES:
        raise InvalidInput(f"count must be 1 to {_MOST_PICTURES}, not {options.count!r}.")
    if options.output_format not in _FORMATS:
        raise InvalidInput(f"output_format must be png, jpeg or webp, not {options.output_format!r}.")
    if options.steps is not None and not 1 <= options.steps <= _MOST_STEPS:
        raise InvalidInput(f"steps must be 1 to {_MOST_STEPS:,}, not {options.steps!r}.")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise InvalidInput(f"seed must be 0 or more, and less than 2^63, not {options.seed!r}.")
    if options.guidance is not None and not 0 <= options.guidance <= 100:
        raise InvalidInput(f"guidance must be 0 to 100, not {options.guidance!r}.")
    return None if options.size in ("", "auto") else _size(options.size)


def _size(text: str) -> tuple[int, int]:
    """Multiples of 8, as the models need them. Raises `InvalidInput`."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(width, height) < 8 or width % 8 or height % 8 or width * height > _MOST_PIXELS:
        raise InvalidInput(f"size must be like 512x512, multiples of 8 and at most 2048x2048 pixels, not {text!r:.40}.")
    return width, height


def pace(options: DrawOptions) -> float:
    """How many of the usual steps `quality` asks for."""
    return {"low": 0.5, "high": 2.0}.get(options.quality, 1.0)


def drawing(picture: Any, options: DrawOptions, frames: tuple[bytes, ...] = ()) -> Drawing:
    """A picture of PIL as it was asked for."""
    kind = _FORMATS[options.output_format]
    return Drawing(encoded(picture, kind), f"image/{kind.lower()}", frames=frames)


def encoded(picture: Any, kind: str = "PNG") -> bytes:
    """The bytes of a file."""
    out = BytesIO()
    picture.save(out, kind)
    return out.getvalue()
