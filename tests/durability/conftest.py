from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

collect_ignore = [] if sys.platform == "linux" else ["test_power_cut.py", "test_disk_full.py"]  # LD_PRELOAD


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`unsynced.c`, compiled."""
    library = tmp_path_factory.mktemp("shim") / "unsynced.so"
    source = Path(__file__).with_name("unsynced.c")
    command = [os.environ.get("CC", "cc"), "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    subprocess.run([*command, "-o", str(library), str(source)], check=True)
    return library


Watched = Callable[..., list[str]]


@pytest.fixture
def watched(shim: Path, root: Path, tmp_path: Path) -> Watched:
    """Run a module on the directory `tmp_path/disk` under the shim, logging to `tmp_path/log`; returns its lines."""

    def run(module: str, *arguments: str, **settings: str) -> list[str]:
        environment = {**os.environ, **settings, "LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1",
                       "UNSYNCED_ROOT": str((tmp_path / "disk").resolve()), "UNSYNCED_LOG": str(tmp_path / "log")}
        command = [sys.executable, "-m", f"tests.durability.{module}", str((tmp_path / "disk" / "ws").resolve())]
        ran = subprocess.run([*command, *arguments], cwd=root, env=environment, stdout=subprocess.PIPE, text=True,
                             check=True)
        return ran.stdout.splitlines()

    return run
