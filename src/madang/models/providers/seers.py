"""Where the bundled models are, and the CLIP that the files of another model name."""

from __future__ import annotations

from pathlib import Path

from madang.models.protocol import SeesAndReads

FOLDER = Path(__file__).resolve().parents[1] / "bundled"


def path_of(name: str) -> str:
    """The folder of "bundled/NAME"; any other name as it is."""
    provider, _, model = name.partition("/")
    return str(FOLDER / model) if provider == "bundled" and (FOLDER / model).is_dir() else name


def seer_of(name: str) -> SeesAndReads:
    """A CLIP: a bundled one, without torch, or one in a folder. Raises as `clip_pair.load`."""
    provider, _, model = name.partition("/")
    if provider == "bundled":
        from madang.models.providers.onnx_clip import OnnxClip

        return OnnxClip(FOLDER / model, name=name)
    from madang.models.providers.clip_pair import load

    return load(name, download=False)
