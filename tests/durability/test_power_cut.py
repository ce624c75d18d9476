"""The power goes: what was acknowledged had been synced, whatever became of the rest."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from madang.store import Database
from tests.durability.conftest import Watched
from tests.durability.oracle import Oracle
from tests.durability.replay import Disk, read_log


def _cuts(log: Path, count: int, generator: random.Random) -> list[int]:
    """Where to cut: just after something was acknowledged, and anywhere."""
    entries = list(read_log(log))
    acknowledged = [n for n, entry in enumerate(entries) if entry.kind == "M" and entry.data.startswith(b"done")]
    return sorted({*generator.sample(acknowledged, count // 2), *generator.sample(range(len(entries)), count // 2)})


def _check_cuts(disk: Disk, tmp_path: Path, count: int, seed: int) -> list[str]:
    """Cut the power at `count` moments; returns what was wrong after each."""
    generator = random.Random(seed)
    cuts, wrong, left = _cuts(tmp_path / "log", count, generator), [], tmp_path / "left"
    for number, entry in enumerate(read_log(tmp_path / "log")):
        disk.follow(entry)
        if number in cuts:
            disk.cut(left, generator)
            oracle = Oracle()
            oracle.hear(disk.said.decode().split("\n")[:-1])
            try:
                oracle.check(left / "ws")
            except Exception as error:
                wrong.append(f"cut after entry {number}: {type(error).__name__}: {error}")
            shutil.rmtree(left)
    return wrong


@pytest.mark.parametrize(("operations", "cuts"), [
    pytest.param(150, 40, id="40"), pytest.param(1000, 600, id="600", marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_acknowledged_writes_survive_a_power_cut(watched: Watched, tmp_path: Path, operations: int, cuts: int) -> None:
    Database(tmp_path / "disk" / "ws").close()
    disk = Disk((tmp_path / "disk").resolve())
    watched("worker", "--seed", "1", "--most", str(operations))
    assert _check_cuts(disk, tmp_path, cuts, seed=1) == []
    _check_log(disk, tmp_path)


def _check_log(disk: Disk, tmp_path: Path) -> None:
    """Nothing went past the shim: the log says what is in the directory."""
    disk.everything(tmp_path / "seen")
    real, seen = ({path.relative_to(top): path.read_bytes() if path.is_file() else None for path in top.rglob("*")
                   if not path.name.endswith("-shm")} for top in (tmp_path / "disk", tmp_path / "seen"))
    assert real == seen


@pytest.mark.parametrize(("synchronous", "folder_syncs"), [("OFF", True), ("NORMAL", True), ("FULL", False)])
def test_without_one_of_the_syncs_the_same_check_fails(watched: Watched, tmp_path: Path, synchronous: str,
                                                       folder_syncs: bool) -> None:
    Database(tmp_path / "disk" / "ws").close()
    disk = Disk((tmp_path / "disk").resolve(), folder_syncs)
    watched("worker", "--seed", "1", "--most", "60", DURABILITY_SYNCHRONOUS=synchronous)
    wrong = _check_cuts(disk, tmp_path, 20, seed=1)
    assert any("acknowledged but lost" in what or "Corrupt: " in what for what in wrong)


def test_a_new_workspace_survives_a_power_cut(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    disk = Disk((tmp_path / "disk").resolve())
    watched("worker", "--seed", "1", "--most", "10")
    assert _check_cuts(disk, tmp_path, 20, seed=1) == []
