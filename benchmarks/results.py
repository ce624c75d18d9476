"""Rows of RESULTS.md: what was measured, where, of which commit, with which versions."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).with_name("RESULTS.md")
_HEAD = """# Results

Appended by `make bench` (`python benchmarks/run.py`). Machines are shared and noisy: compare ratios within a row, not
seconds between rows. Every row names the command that repeats it.

| date | commit | machine | benchmark | result | command | signature |
|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured result; `signature` is whatever else decides the number."""

    benchmark: str
    result: str
    command: str
    signature: str


def append(rows: list[Row]) -> None:
    """Add rows to the table, made on first use."""
    if not FILE.exists():
        FILE.write_text(_HEAD, encoding="utf-8")
    today, commit, where = datetime.now(UTC).date().isoformat(), _commit(), machine()
    with FILE.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(f"| {today} | {commit} | {where} | {row.benchmark} | {row.result} | `{row.command}` | "
                       f"{row.signature} |\n")


def versions(*packages: str) -> str:
    """"name version" of packages, and Python's."""
    return ", ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def machine() -> str:
    """Processor, cores that may be used, kernel in use."""
    from madang.index._kernel import isa

    return f"{_cpu()}, {_cores()} cores, {isa()}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _commit() -> str:
    run = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False,
                         cwd=FILE.parent)
    return run.stdout.strip() or "unknown"
