"""What the scripts of models share: where trainings are, what they print, and how weights come into the package."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from madang.models.providers.seers import FOLDER as BUNDLED
from madang.multimodal.training import Tell, Told

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "models"
POOL = CACHE / "pool"           # painted scenes with their vectors, for every training


def teller(every: int = 50) -> Callable[[str], Tell]:
    """Lines on stdout for each part of a training."""
    begun = time.monotonic()

    def part(name: str) -> Tell:
        def told(now: Told) -> None:
            if now.step % every == 0 or now.step == now.steps:
                seen = ", ".join(f"{each} {value:.3f}" for each, value in now.scores.items())
                print(f"{name} {now.step:5d}  {time.monotonic() - begun:6.0f} s  loss {now.loss:.4f}  {seen}", flush=True)
        return told

    return part


def options(doc: str | None, **more: tuple[type, Any]) -> argparse.Namespace:
    """Of the command line: `name=(type, default)`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (kind, default) in more.items():
        if kind is bool:
            made.add_argument(f"--{name.replace('_', '-')}", action="store_true")
        else:
            made.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    return made.parse_args(sys.argv[1:])


def placed(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Copy `files` (from the training's folder, to the model's) into the package, weights in half precision."""
    out = BUNDLED / name
    shutil.rmtree(out, ignore_errors=True)
    for source, target in files.items():
        path = out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".safetensors"):
            weights = load_file(folder / source)
            save_file({key: each.half() if each.is_floating_point() else each for key, each in weights.items()}, path,
                      metadata={"format": "pt"})
        else:
            shutil.copy(folder / source, path)
    return out


def size_bytes(folder: Path) -> int:
    """Of the files, without the card."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "README.md")


def head(pipeline: str, found: dict[str, Any]) -> str:
    """The front matter of a card."""
    told = {**found, "python": platform.python_version(), "torch": str(torch.__version__)}
    return "---\n" + yaml.safe_dump(
        {"license": "apache-2.0", "language": ["en", "ko"], "pipeline_tag": pipeline, "library_name": "madang",
         "madang": told}, sort_keys=False, allow_unicode=True) + "---\n"


def append_row(setup: str, found: dict[str, Any], command: str, *libraries: str) -> None:
    """A row in benchmarks/RESULTS.md."""
    told = ", ".join(f"{name} ({', '.join(f'{part} {share}' for part, share in value.items())})" if isinstance(value, dict)
                     else f"{name} {value}" for name, value in found.items())
    sys.path.insert(0, str(BUNDLED.parents[3]))
    from benchmarks.results import Row, append, versions

    append([Row(setup, told, command, versions("madang", "torch", *libraries))])
