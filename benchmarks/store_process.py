"""The side of benchmarks/store.py that starts a contender's process and asks it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.datasets import ROOT
from benchmarks.store_contender import Contender

PEERS = ROOT / ".venv-bench-store" / "bin" / "python"
QUIET = {       # nobody phones home; nobody's idle threads spin on the core of the next one
    "ANONYMIZED_TELEMETRY": "False", "HF_HUB_OFFLINE": "1", "LANCEDB_TELEMETRY": "0", "DO_NOT_TRACK": "1",
    "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}


class Failed(Exception):
    """What a contender could not do, with the reason and how far it came."""


def python_of(kind: type[Contender]) -> Path:
    """The interpreter of a contender's environment."""
    return Path(sys.executable) if kind.ours else PEERS


class Process:
    """One contender, ready to be asked. `limit_s`: seconds it may work, time in which it waits to be asked not counted."""

    def __init__(self, name: str, python: Path, folder: Path, data: Path, limit_s: float) -> None:
        if not python.exists():
            raise Failed("its environment is not there; make it with: make .venv-bench-store/installed")
        self.left_s, self.limit_s, self.buffer = limit_s, limit_s, b""
        self.log = tempfile.TemporaryFile()     # noqa: SIM115  (closed by `end`)
        started = time.time()
        self.child = subprocess.Popen([str(python), str(ROOT / "benchmarks" / "store_worker.py"), name, str(folder), str(data)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
                                      env=os.environ | QUIET)
        self.selector = selectors.DefaultSelector()
        assert self.child.stdin
        assert self.child.stdout
        self.input, self.output = self.child.stdin, self.child.stdout
        self.selector.register(self.output, selectors.EVENT_READ)
        try:
            self.begun = self.ask("begin", started=started)
        except Failed:
            self.end()
            raise

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """The answer to a request. Raises Failed when it fails, dies, or works for too long."""
        progress = ""
        start = time.monotonic()
        try:
            self.input.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.input.flush()
            while True:
                answer = json.loads(self.line(start + self.left_s))
                if "done" in answer:
                    done: dict[str, Any] = answer["done"]
                    return done
                if "error" in answer:
                    raise Failed(f"{do}: {answer['error']}{progress}")
                progress = f" (until then: {answer['progress']})"
        except TimeoutError:
            self.end(patience_s=0)
            raise Failed(f"{do}: stopped after {self.limit_s:g} s of work{progress}") from None
        except (OSError, EOFError):
            self.child.wait()
            words = self.last_words()
            self.end()
            raise Failed(f"{do}: the process ended with {self.child.returncode}{progress}: {words}") from None
        finally:
            self.left_s -= time.monotonic() - start

    def line(self, until: float) -> bytes:
        """The next line it writes. Raises TimeoutError and EOFError."""
        while b"\n" not in self.buffer:
            if not self.selector.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            more = os.read(self.output.fileno(), 1 << 20)
            if not more:
                raise EOFError
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def last_words(self) -> str:
        """The last line on its standard error."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "without a word"

    def end(self, patience_s: float = 10) -> None:
        """Stop it, if it does not end by itself when nothing more is asked. May be called again."""
        with contextlib.suppress(OSError):      # it is gone already
            self.input.close()
        try:
            self.child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.selector.close()
        self.output.close()
        self.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.end()
