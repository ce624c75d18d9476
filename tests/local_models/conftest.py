"""Checkpoints are made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local_models import checkpoints


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever means the hub plays it."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture(scope="session")
def embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_embedder(tmp_path_factory.mktemp("models") / "embedder",
                                     {"query": "query : ", "document": "passage : "})


@pytest.fixture(scope="session")
def plain_embedder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_embedder(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_cross_encoder(tmp_path_factory.mktemp("models") / "cross")


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_chat(tmp_path_factory.mktemp("models") / "chat")


@pytest.fixture(scope="session")
def vision_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_vision_chat(tmp_path_factory.mktemp("models") / "vision")


@pytest.fixture(scope="session")
def next_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_next_chat(tmp_path_factory.mktemp("models") / "next")


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_pipeline(tmp_path_factory.mktemp("models") / "pipeline")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_siglip(tmp_path_factory.mktemp("models") / "siglip")


@pytest.fixture(scope="session")
def unclip_folder(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    return checkpoints.save_unclip(tmp_path_factory.mktemp("models") / "unclip", clip_folder)


@pytest.fixture(scope="session")
def kandinsky_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_kandinsky(tmp_path_factory.mktemp("models") / "kandinsky")
