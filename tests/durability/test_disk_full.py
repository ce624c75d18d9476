"""The disk fills up in the middle of anything, and has space again."""

from __future__ import annotations

from pathlib import Path

import pytest

from madang.store import Database
from tests.durability.conftest import Watched

TOLD = ("nothing was changed. Free some space on the disk and try again.",
        "No space left on device. Check its permissions and the disk.")  # the lock file


@pytest.mark.parametrize(("seed", "operations"), [
    pytest.param(1, 90, id="90"), pytest.param(2, 3000, id="3000", marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_a_full_disk_is_told_and_loses_nothing(watched: Watched, tmp_path: Path, seed: int, operations: int) -> None:
    (tmp_path / "disk").mkdir()
    said = watched("filling", str(seed), str(operations))
    assert len(said) > operations // 10
    assert {line.split(":")[0] for line in said} >= {"upsert", "update", "delete", "create"}
    for line in said:
        assert "InvalidInput: " in line
        assert line.endswith(TOLD)


def test_an_open_that_failed_harms_nothing_later(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    watched("reopening")
    database = Database(tmp_path / "disk" / "ws")
    assert database.open("docs").stats().records == 101
    database.close()
