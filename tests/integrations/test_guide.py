"""The guide's programs for other libraries run as they are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_page_runs_from_top_to_bottom(language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "guide" / language / "integrations.md").read_text(encoding="utf-8")
    programs = re.findall(r"^```py\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(programs) == 3
    names: dict[str, object] = {}
    for program in programs:
        exec(compile(program, "integrations.md", "exec"), names)


def test_both_languages_show_the_same_programs() -> None:
    pages = [(ROOT / "docs" / "guide" / language / "integrations.md").read_text(encoding="utf-8") for language in ("en", "ko")]
    assert len({tuple(re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)) for page in pages}) == 1
