"""`kill -9` at random moments of concurrent work, again and again on one directory."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.durability.oracle import Oracle


def _work_and_kill(root: Path, directory: Path, seed: int, most_lines: int, delay_s: float) -> list[str]:
    """Run the worker, kill it a moment after so many lines; returns its lines."""
    command = [sys.executable, "-m", "tests.durability.worker", str(directory), "--seed", str(seed), "--threads", "3"]
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    timer = threading.Timer(delay_s, child.send_signal, [signal.SIGKILL])
    lines = []
    with child.stdout:
        for line in child.stdout:
            lines.append(line)
            if len(lines) == most_lines:
                timer.start()
    assert child.wait() == -signal.SIGKILL
    timer.join()
    return [line.rstrip("\n") for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("rounds", [pytest.param(12, id="12"), pytest.param(200, id="200", marks=pytest.mark.soak)])
@pytest.mark.timeout(1800)
def test_acknowledged_writes_survive_kills_and_no_half_write_is_seen(root: Path, tmp_path: Path, rounds: int) -> None:
    directory, copy = tmp_path / "ws", tmp_path / "copy"
    generator, oracle, acknowledged, cut = random.Random(rounds), Oracle(), 0, 0
    for seed in range(rounds):
        lines = _work_and_kill(root, directory, seed, generator.randint(1, 300), generator.random() * 0.02)
        acknowledged += sum(line.startswith("done") for line in lines)
        oracle.hear(lines)
        cut += bool(oracle.under_way)
        if generator.random() < 0.5:
            oracle.check(directory)
        else:  # the next worker, and not this process, finds the directory as the kill left it
            shutil.copytree(directory, copy)
            oracle.check(copy)
            shutil.rmtree(copy)
    assert acknowledged > 30 * rounds
    assert cut > rounds // 2  # the kills fell into the middle of something
    assert oracle.turned > 0  # ... and found collections between two models
    assert oracle.beside > 0
