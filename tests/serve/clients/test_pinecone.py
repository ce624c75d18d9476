"""The pinecone clients, unmodified, each in an environment of its own: `make clients` makes them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import madang
from madang.serve.run import serving

ROOT = Path(__file__).parents[3]
DRIVER = ROOT / "tests" / "serve" / "pinecone" / "driver.py"


@pytest.mark.parametrize("version", ["3.2", "7.3", "8.1", "9.1", "10.2"])
def test_every_call_of_the_client(version: str, tmp_path: Path) -> None:
    python = ROOT / ".venv-clients" / f"pinecone-{version}" / "bin" / "python"
    assert python.exists(), "run: make clients"
    with madang.open(tmp_path / "ws") as workspace, serving(workspace) as address:
        # No proxy, no settings of the person who runs the tests.
        told = {"PINECONE_CONTROLLER_HOST": address, "PINECONE_API_KEY": "any", "PATH": os.environ["PATH"],
                "HOME": str(tmp_path)}
        done = subprocess.run([python, DRIVER], env=told, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert f"pinecone {version.partition('.')[0]}: " in done.stdout
        assert workspace.collections() == []
