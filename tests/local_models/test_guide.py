"""The pages of models that need torch run as they are printed, but for what trains for hours or asks a service."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from madang.cli.main import entry

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide"
_FENCE = re.compile(r"^```(sh|py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ELSEWHERE = ("madang train llava", "madang train unclip", "--writer")
_MADE = {
    "describe-and-draw.md": {"steps.png", "drawing.png", "heart.png", "ring.png", "night.png", "there-and-back.png"},
    "state-space.md": {"my-mamba", "my-transformer"},
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("page", sorted(_MADE))
def test_a_page_runs_from_top_to_bottom(page: str, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = list(_FENCE.finditer((GUIDE / language / page).read_text(encoding="utf-8")))
    assert len(blocks) > 1
    for block in blocks:
        if block[1] == "py":
            exec(compile(block[2], f"{page} ({language})", "exec"), {})
            continue
        for line in block[2].splitlines():
            if not any(each in line for each in _ELSEWHERE):
                assert entry(shlex.split(line, comments=True)[1:]) == 0, line
    assert _MADE[page] <= {each.name for each in tmp_path.iterdir()}
