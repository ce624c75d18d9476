from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from madang.store import Collection, Database
from tests.models.fakes import WordHashEmbedder


@pytest.fixture
def embedder() -> WordHashEmbedder:
    return WordHashEmbedder()


@pytest.fixture
def docs(tmp_path: Path, embedder: WordHashEmbedder) -> Iterator[Collection]:
    database = Database(tmp_path / "workspace")
    yield database.create("docs", embedder.dim, embedder=embedder.signature)
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents."""
    root = tmp_path / "handbook"
    root.mkdir()
    (root / "vacation.md").write_text(
        "# Vacation\n\nEvery employee has fifteen vacation days a year.\n\n## Carry-over\n\n"
        "Unused days may be carried over until March. They expire after that.\n", encoding="utf-8")
    (root / "travel.txt").write_text("Train tickets are reimbursed in second class.\n\nTaxis need a reason.\n",
                                     encoding="utf-8")
    (root / "휴가.md").write_text("# 휴가\n\n연차는 입사 첫해에 열다섯 일입니다. 남은 연차는 3월까지 쓸 수 있습니다.\n", encoding="utf-8")
    return root
