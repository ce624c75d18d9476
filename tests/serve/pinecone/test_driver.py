"""The client that is installed beside the tests; `make clients` runs the other versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from madang.workspace import Workspace

DRIVER = Path(__file__).with_name("driver.py")


def test_every_call_of_the_client(served: tuple[Workspace, str], tmp_path: Path) -> None:
    told = {"PINECONE_CONTROLLER_HOST": served[1], "PINECONE_API_KEY": "any", "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, DRIVER], env=told, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "checks passed" in done.stdout
