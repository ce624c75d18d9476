"""Folders as they are: forbidden, odd, vanished, or full of secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from madang.base.errors import InvalidInput
from madang.rag.ingest import ingest
from madang.store import Collection
from tests.models.fakes import WordHashEmbedder


def _names(docs: Collection) -> set[str]:
    return {Path(uri).name for uri in docs.sources()}


def test_a_folder_that_may_not_be_listed_keeps_what_was_known_of_it(docs: Collection, embedder: WordHashEmbedder,
                                                                    folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "secret.txt").write_text("Known before.")
    ingest([folder], docs, embedder)
    inner.chmod(0)
    for path in [folder, *list(folder.parents)[:3]]:
        path.chmod(0o755)
    user = os.geteuid()
    docs.remove_sources([])  # the writer lock is taken while still allowed to
    if user == 0:
        os.seteuid(65534)
    try:
        report = ingest([folder], docs, embedder)
    finally:
        os.seteuid(user)
        inner.chmod(0o755)
    assert report.removed == 0
    assert [problem.message for problem in report.problems if "inner cannot be read" in problem.message]
    assert "secret.txt" in _names(docs)


def test_a_file_named_outright_stays_while_it_exists(docs: Collection, embedder: WordHashEmbedder, folder: Path) -> None:
    hidden = folder / ".hidden.md"
    hidden.write_text("Hidden.")
    ingest([hidden], docs, embedder)
    assert ingest([folder], docs, embedder).removed == 0
    hidden.unlink()
    assert ingest([folder], docs, embedder).removed == 1


def test_the_last_file_of_a_folder_can_disappear(docs: Collection, embedder: WordHashEmbedder, folder: Path) -> None:
    ingest([folder], docs, embedder)
    for path in folder.iterdir():
        path.unlink()
    assert ingest([folder], docs, embedder).removed == 3
    with pytest.raises(InvalidInput, match="holds no file that can be read"):
        ingest([folder], docs, embedder)


def test_deleted_chunks_come_back_with_the_next_ingest(docs: Collection, embedder: WordHashEmbedder,
                                                       folder: Path) -> None:
    ingest([folder], docs, embedder)
    docs.delete(filter={"title": {"$exists": True}})
    assert docs.stats().records == 0
    assert ingest([folder], docs, embedder).updated == 3
    assert docs.stats().records > 0


def test_a_workspace_is_never_a_document(docs: Collection, embedder: WordHashEmbedder, folder: Path) -> None:
    (folder / "madang.toml").write_text("[services.x]\napi_key = 'sk-SECRET'\n")
    other = folder / "other"
    (other / "collections").mkdir(parents=True)
    (other / "writer.lock").touch()
    (other / "madang.toml").write_text("[services.x]\napi_key = 'sk-SECRET'\n")
    (other / "collections" / "x.txt").write_text("not a document")
    ingest([folder], docs, embedder)
    assert _names(docs) == {"vacation.md", "travel.txt", "휴가.md"}
    with pytest.raises(InvalidInput, match="may hold keys"):
        ingest([folder / "madang.toml"], docs, embedder)


def test_odd_files_are_reported_and_do_not_stop_the_run(docs: Collection, embedder: WordHashEmbedder,
                                                       folder: Path) -> None:
    os.mkfifo(folder / "pipe.txt")
    Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.txt")).write_text("x")
    report = ingest([folder, folder / "pipe.txt"], docs, embedder)  # a pipe named outright would wait for ever
    assert report.added == 3
    messages = sorted(problem.message for problem in report.problems)
    assert len(messages) == 2
    assert any("not UTF-8" in message for message in messages)
    assert any("no regular file" in message for message in messages)
    for message in messages:
        message.encode("utf-8")


@pytest.mark.parametrize("path", ["x" * 300, "~nosuchuser/x", "a\0b"])
def test_paths_that_the_system_refuses(docs: Collection, embedder: WordHashEmbedder, path: str) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        ingest([path], docs, embedder)
