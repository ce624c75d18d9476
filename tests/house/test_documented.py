"""Documented commands and programs run as they are printed: each page from top to bottom in an empty directory."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from madang.cli.main import entry

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "README.ko.md", *(ROOT / "docs" / "guide").rglob("*.md")])
with socket.socket() as _probe:        # instead of 7860, where something else may listen
    _probe.bind(("127.0.0.1", 0))
    PORT = _probe.getsockname()[1]
_FENCE = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(page: Path) -> Iterator[tuple[str, str]]:
    for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
        yield block[1], block[2]


def _run_line(line: str, behind: list[subprocess.Popen[str]]) -> None:
    """`madang ...` in this process, for speed, or behind it where the line ends with &; anything else in a shell.
    Installing is the Makefile's business."""
    if line.startswith("madang serve") and line.endswith(" &"):
        server = subprocess.Popen([sys.executable, "-m", *shlex.split(line)[:-1], "--port", str(PORT)],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        behind.append(server)
        assert server.stdout is not None
        assert server.stdout.readline(), line       # it listens
    elif line.startswith("madang "):
        assert entry(shlex.split(line)[1:]) == 0, line
    elif not line.startswith("pip install"):
        subprocess.run(line, shell=True, check=True, executable="/bin/bash")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if page.parent == ROOT:
        shutil.copytree(ROOT / "docs" / "guide", tmp_path / "docs" / "guide")
    names: dict[str, object] = {}
    behind: list[subprocess.Popen[str]] = []
    try:
        _run_page(page, names, behind)
    finally:
        for value in names.values():
            if callable(getattr(type(value), "close", None)):      # an object, not a class
                value.close()  # type: ignore[attr-defined]
        for server in behind:
            server.kill()
            server.communicate()


def _run_page(page: Path, names: dict[str, object], behind: list[subprocess.Popen[str]]) -> None:
    for language, text in _blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                _run_line(line.removeprefix("$ ").replace(":7860/", f":{PORT}/").replace("curl ", "curl --fail "), behind)


def test_both_readmes_show_the_same_commands_and_programs() -> None:
    def code(name: str) -> list[str]:
        return [re.sub(r"\s*#.*", "", text) for _, text in _blocks(ROOT / name)]

    assert code("README.md") == code("README.ko.md")


def test_the_makefile_has_the_documented_words() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in ("demo", "serve", "test", "conformance", "soak", "lint", "bench", "docs", "models"):
        assert re.search(rf"^{word}:.*##", makefile, re.MULTILINE), word
    for word in re.findall(r"^\| `make (\w+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE):
        assert re.search(rf"^{word}:", makefile, re.MULTILINE), word
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
