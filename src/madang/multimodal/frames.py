"""Pictures out of videos: a frame every so many seconds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from madang.base.errors import MissingDependency, Unreadable
from madang.models.pictures import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})
MOST = 1000            # frames of one video


def frames(path: Path, every_s: float) -> Iterator[tuple[float, Image.Image]]:
    """Seconds from the beginning and the picture there, the first of each stretch of `every_s`; at most `MOST`.

    Raises `MissingDependency` without PyAV, `Unreadable` for what is no video.
    """
    try:
        import av
    except ImportError:
        raise MissingDependency("Reading videos", extra="video") from None
    try:
        with av.open(io.BytesIO(path.read_bytes()), "r") as video:     # bytes: what it names elsewhere is not read
            stream = next(iter(video.streams.video), None)
            if stream is None:
                raise Unreadable(f"{path} has no pictures.")
            due, found = 0.0, 0
            for frame in video.decode(stream):
                at = float(frame.time or 0.0)
                if at + 1e-6 < due:
                    continue
                if frame.width * frame.height > MAX_PIXELS:
                    raise Unreadable(f"{path} has frames of {frame.width:,} x {frame.height:,} pixels.")
                yield at, frame.to_image()  # type: ignore[no-untyped-call]
                due, found = at + every_s, found + 1
                if found == MOST:
                    return
    except av.error.FFmpegError as error:
        raise Unreadable(f"{path} is no video that can be read: {error.strerror or error}.") from None
