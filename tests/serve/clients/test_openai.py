"""OpenAI's clients, unmodified, each in an environment of its own: `make clients` makes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import madang
from madang.serve.run import serving

ROOT = Path(__file__).parents[3]
DRIVER = ROOT / "tests" / "serve" / "openai" / "drive.py"


@pytest.mark.parametrize("version", ["1.25", "1.109", "2.54", "3.57"])
def test_every_call_of_the_client(version: str, tmp_path: Path) -> None:
    python = ROOT / ".venv-clients" / f"openai-{version}" / "bin" / "python"
    assert python.exists(), "run: make clients"
    with madang.open(tmp_path / "ws") as workspace, serving(workspace) as address:
        told = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}      # no proxy, no settings of who runs the tests
        done = subprocess.run([python, DRIVER, address], env=told, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert done.stdout.startswith(f"openai {version}.")
        assert workspace.collections() == []
