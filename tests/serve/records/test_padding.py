"""Padded and real vectors in one index draw a warning, once."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from madang.models.aliases import widened
from madang.serve.padding import PADDED, notice
from madang.workspace import Workspace

RANDOM = np.random.default_rng(0)
REAL = RANDOM.standard_normal((3, 1536)).astype(np.float32)
OURS = widened(RANDOM.standard_normal((3, 384)).astype(np.float32), 1536)


def test_both_kinds_are_told_once(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    index = workspace.create_collection("v", 1536)
    with caplog.at_level(logging.WARNING, "madang.serve"):
        assert [notice(index, OURS), notice(index, OURS)] == [None, None]
        assert index.attributes[PADDED] == "padded"
        told = notice(index, REAL)
        assert told is not None
        assert "'v' now holds vectors of a narrower model" in told
        assert [notice(index, REAL), notice(index, OURS)] == [None, None]
    assert index.attributes[PADDED] == "mixed"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_one_kind_is_not_told(workspace: Workspace) -> None:
    index = workspace.create_collection("real", 1536)
    assert [notice(index, REAL), notice(index, REAL[:0]), notice(index, REAL)] == [None] * 3
    assert index.attributes[PADDED] == "real"
    other = workspace.create_collection("other", 8)      # of no width that a name of a service has
    assert notice(other, np.zeros((2, 8), np.float32)) is None
    assert PADDED not in other.attributes


def test_both_at_once(workspace: Workspace) -> None:
    assert notice(workspace.create_collection("v", 1536), np.concatenate([OURS, REAL])) is not None
