"""`madang serve` as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def command(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`madang serve` as a process of its own, once it answers."""
    process = subprocess.Popen([sys.executable, "-m", "madang", "serve", "--port", "0", "--json", "-w", str(directory), *options],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = str(json.loads(process.stdout.readline())["address"])
        httpx.get(f"{address}/health", timeout=60)     # waits in the socket's queue until it is ready
        yield process, address
    finally:
        process.kill()
        process.communicate()
