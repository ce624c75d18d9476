"""Scenes as a data set on disk: a folder with metadata.jsonl, DiffusionDB's layout, or Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from madang.base.errors import MissingDependency
from madang.multimodal.scenes.paint import paint
from madang.multimodal.scenes.words import Language, prompt
from madang.multimodal.scenes.world import Scene, Split, scene

Layout: TypeAlias = Literal["folder", "diffusiondb", "parquet"]
_PART = 1000           # pictures in a part of DiffusionDB
# For columns of DiffusionDB (Wang et al. 2022) that mean nothing here.
_SETTINGS: dict[str, Any] = {"step": 50, "cfg": 7.0, "sampler": "k_lms"}
_USER = "0" * 64


def write(out: Path, count: int, *, start: int = 0, split: Split = "train", language: Language = "en", side: int = 256,
          layout: Layout = "folder", kind: str = "png", progress: Callable[[int, int], None] | None = None) -> None:
    """Paint `count` scenes into a folder. Raises `MissingDependency` for Parquet without pyarrow."""
    out.mkdir(parents=True, exist_ok=True)
    told = _told(_painted(count, start, split, language, side, kind), count, progress)
    {"folder": _folder, "diffusiondb": _parts, "parquet": _parquet}[layout](out, told, kind, side)


def told_scene(about: Mapping[str, Any]) -> Scene | None:
    """The scene that a row of these data sets says it shows; None where it says none, or something else."""
    told = about.get("scene")
    try:
        return Scene.from_dict(json.loads(told) if isinstance(told, str) else told) if told else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


Painted: TypeAlias = tuple[int, Scene, str, bytes]


def _painted(count: int, start: int, split: Split, language: Language, side: int, kind: str) -> Iterator[Painted]:
    for seed in range(start, start + count):
        made = scene(seed, split)
        data = io.BytesIO()
        how: dict[str, Any] = {"format": "JPEG", "quality": 92} if kind == "jpg" else {"format": "PNG"}
        paint(made, seed, side=side).save(data, **how)
        yield seed, made, prompt(made, seed, language, split=split), data.getvalue()


def _told(rows: Iterator[Painted], count: int, progress: Callable[[int, int], None] | None) -> Iterator[Painted]:
    for done, row in enumerate(rows, start=1):
        yield row
        if progress is not None:
            progress(done, count)


def _folder(out: Path, rows: Iterator[Painted], kind: str, side: int) -> None:
    """As `datasets` reads it with "imagefolder"; the truth is beside the text."""
    with (out / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for seed, made, text, data in rows:
            name = f"{seed:07d}.{kind}"
            (out / name).write_bytes(data)
            file.write(json.dumps({"file_name": name, "text": text, "seed": seed, "background": made.background,
                                   "time": made.time, "count": len(made.things), "scene": json.dumps(made.as_dict())},
                                  ensure_ascii=False) + "\n")


def _parts(out: Path, rows: Iterator[Painted], kind: str, side: int) -> None:
    """part-000001/NAME.png beside part-000001/part-000001.json, as DiffusionDB's files are."""
    said: dict[str, Any] = {}
    part = 0
    for at, (seed, _, text, data) in enumerate(rows):
        if at % _PART == 0:
            _close(out, part, said)
            part, said = part + 1, {}
            (out / f"part-{part:06d}").mkdir()
        name = f"{seed:07d}.{kind}"
        (out / f"part-{part:06d}" / name).write_bytes(data)
        said[name] = {"p": text, "se": seed, "c": _SETTINGS["cfg"], "st": _SETTINGS["step"], "sa": _SETTINGS["sampler"]}
    _close(out, part, said)


def _close(out: Path, part: int, said: dict[str, Any]) -> None:
    if said:
        (out / f"part-{part:06d}" / f"part-{part:06d}.json").write_text(
            json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")


def _parquet(out: Path, rows: Iterator[Painted], kind: str, side: int) -> None:
    """With the columns of DiffusionDB as the library `datasets` shows them."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingDependency("Writing Parquet", extra="parquet") from None
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("prompt", pa.string()),
                        ("seed", pa.uint32()), ("step", pa.uint16()), ("cfg", pa.float32()), ("sampler", pa.string()),
                        ("width", pa.uint16()), ("height", pa.uint16()), ("user_name", pa.string()),
                        ("timestamp", pa.timestamp("ms", tz="UTC")), ("image_nsfw", pa.float32()),
                        ("prompt_nsfw", pa.float32()), ("scene", pa.string())])
    with parquet.ParquetWriter(out / "scenes.parquet", schema) as writer:
        block: list[dict[str, Any]] = []
        for seed, made, text, data in rows:
            block.append({"image": {"bytes": data, "path": f"{seed:07d}.{kind}"}, "prompt": text, "seed": seed,
                          **_SETTINGS, "width": side, "height": side, "user_name": _USER, "timestamp": 0,
                          "image_nsfw": 0.0, "prompt_nsfw": 0.0, "scene": json.dumps(made.as_dict())})
            if len(block) == 100:
                writer.write_table(pa.Table.from_pylist(block, schema=schema))
                block = []
        if block:
            writer.write_table(pa.Table.from_pylist(block, schema=schema))
