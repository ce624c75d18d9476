"""What all tests share. The suite can neither phone (pytest-socket, see pyproject) nor read the user's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", deadline=None, max_examples=2000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own configuration must not decide a test."""
    for variable in list(os.environ):
        if (variable.startswith(("MADANG_", "OPENAI_", "PINECONE_", "QDRANT_", "MILVUS_"))
                and variable not in ("MADANG_SOAK", "MADANG_FUZZ", "MADANG_TEST_POSTGRESQL")):
            monkeypatch.delenv(variable)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs are deselected, not skipped, unless `make soak` asks for them."""
    if os.environ.get("MADANG_SOAK"):
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT
