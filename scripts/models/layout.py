"""The files around the weights: where models are bundled, their config.json and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BUNDLED = Path(__file__).resolve().parents[2] / "src" / "madang" / "models" / "bundled"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def digest(folder: Path, weights_file: str) -> str:
    """sha256 over the weights and the tokenizer, the two files that decide what a text's vector is."""
    found = hashlib.sha256()
    for name in (weights_file, "tokenizer.json"):
        found.update((folder / name).read_bytes())
    return found.hexdigest()


def write_config(folder: Path, config: Mapping[str, Any], *, name: str, weights_file: str,
                 dense_weight: float = 1.0) -> None:
    """config.json with what Madang's loaders read under "madang": name, languages, weights file and digest, and how
    much its ranking counts beside BM25's."""
    own = {"name": name, "languages": ["en"], "weights": weights_file, "sha256": digest(folder, weights_file),
           "dense_weight": dense_weight}
    text = json.dumps({**config, "madang": own}, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    size = (folder / weights_file).stat().st_size
    print(f"{folder / weights_file}: {size / 1e6:.1f} MB, sha256 {own['sha256'][:12]}")
