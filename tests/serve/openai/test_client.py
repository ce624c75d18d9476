"""OpenAI's own client, as this environment has it, against the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).with_name("drive.py")


def test_all_that_programs_do_with_it_works(address: str) -> None:
    run = subprocess.run([sys.executable, str(DRIVER), address], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.endswith("all of it works\n")
