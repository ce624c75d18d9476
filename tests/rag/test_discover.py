from __future__ import annotations

from pathlib import Path

import pytest

from madang.base.errors import InvalidInput, NotFound
from madang.rag.discover import discover


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_folders_are_walked_without_what_nobody_wrote(tmp_path: Path) -> None:
    kept = [tmp_path / "a.md", tmp_path / "sub" / "b.txt"]
    _touch(*kept, tmp_path / ".git" / "c.md", tmp_path / ".hidden.md", tmp_path / "node_modules" / "d.md",
           tmp_path / "env" / "pyvenv.cfg", tmp_path / "env" / "e.md", tmp_path / "ws" / "f.md", tmp_path / "g.bin")
    found = discover([tmp_path], exclude=[tmp_path / "ws"])
    assert found.files == [path.resolve() for path in kept]
    assert found.roots == [tmp_path.resolve()]
    assert found.skipped == 1


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    _touch(tmp_path / "a.md")
    (tmp_path / "link.md").symlink_to(tmp_path / "a.md")
    assert discover([tmp_path, tmp_path / "a.md", str(tmp_path / "." / "a.md")]).files == [(tmp_path / "a.md").resolve()]


def test_a_file_named_outright_is_kept_whatever_its_suffix(tmp_path: Path) -> None:
    _touch(tmp_path / "a.bin")
    assert discover([tmp_path / "a.bin"]).files == [(tmp_path / "a.bin").resolve()]


def test_missing_and_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere does not exist"):
        discover([tmp_path / "nowhere"])
    _touch(tmp_path / "only" / "picture.bin")
    assert discover([tmp_path / "only"]).skipped == 1
    with pytest.raises(InvalidInput, match="no paths"):
        discover([])
