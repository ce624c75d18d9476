"""Ingest: idempotent, incremental, robust against broken files and interruption."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from madang.base.errors import NotFound
from madang.rag.ingest import IngestProgress, ingest
from madang.store import Collection, Database
from tests.models.fakes import WordHashEmbedder


def test_the_second_run_does_nothing_and_later_ones_only_what_changed(
        docs: Collection, embedder: WordHashEmbedder, folder: Path) -> None:
    first = ingest([folder], docs, embedder)
    assert (first.added, first.updated, first.unchanged, first.removed, first.failed) == (3, 0, 0, 0, 0)
    assert first.chunks == docs.stats().records == len(embedder.embedded)
    before = docs.stats().sequence
    embedder.embedded.clear()

    second = ingest([folder], docs, embedder)
    assert (second.added, second.unchanged, second.chunks) == (0, 3, 0)
    assert docs.stats().sequence == before
    assert embedder.embedded == []

    (folder / "travel.txt").write_text("Flights need approval.", encoding="utf-8")
    (folder / "휴가.md").unlink()
    (folder / "new.txt").write_text("New.", encoding="utf-8")
    third = ingest([folder], docs, embedder)
    assert (third.added, third.updated, third.unchanged, third.removed) == (1, 1, 1, 1)
    assert {Path(uri).name for uri in docs.sources()} == {"vacation.md", "travel.txt", "new.txt"}
    assert not docs.query(text="taxis").matches
    assert docs.query(text="flights").matches


def test_only_a_walked_folder_removes(docs: Collection, embedder: WordHashEmbedder, folder: Path,
                                      tmp_path: Path) -> None:
    """Ingesting something else says nothing about the files of another folder."""
    ingest([folder], docs, embedder)
    (folder / "travel.txt").unlink()
    other = tmp_path / "handbook-2"
    other.mkdir()
    (other / "x.txt").write_text("x")
    assert ingest([other, folder / "vacation.md"], docs, embedder).removed == 0
    assert ingest([folder], docs, embedder).removed == 1


def test_records_reproduce_their_source(docs: Collection, embedder: WordHashEmbedder, folder: Path) -> None:
    ingest([folder], docs, embedder)
    for record in docs.fetch(docs.list_ids().ids).values():
        source = docs.source(str(record.metadata["source"]))
        assert source is not None
        start, end = record.metadata["start"], record.metadata["end"]
        assert source.text[start:end] == record.document  # type: ignore[misc]
        assert Path(source.uri).read_text(encoding="utf-8") == source.text


def test_a_change_of_recipe_redoes_every_file(docs: Collection, embedder: WordHashEmbedder, folder: Path) -> None:
    ingest([folder], docs, embedder)
    assert ingest([folder], docs, embedder, chunk_chars=200).updated == 3


def test_a_broken_file_is_reported_and_keeps_what_was_known(docs: Collection, embedder: WordHashEmbedder,
                                                            folder: Path) -> None:
    ingest([folder], docs, embedder)
    (folder / "travel.txt").write_bytes(b"taxi \xff\x80 broken \x00\x01\x02")
    (folder / "empty.docx").write_bytes(b"")
    (folder / "later.txt").write_text("Later files are read.", encoding="utf-8")
    report = ingest([folder], docs, embedder)
    assert (report.added, report.failed, report.unchanged, report.removed) == (1, 2, 2, 0)
    assert {Path(problem.path).name for problem in report.problems} == {"travel.txt", "empty.docx"}
    assert all("\n" not in problem.message for problem in report.problems)
    assert docs.query(text="taxis").matches


def test_a_missing_path_changes_nothing(docs: Collection, embedder: WordHashEmbedder, folder: Path,
                                        tmp_path: Path) -> None:
    ingest([folder], docs, embedder)
    (folder / "travel.txt").unlink()
    before = docs.stats()
    with pytest.raises(NotFound):
        ingest([folder, tmp_path / "nowhere"], docs, embedder)
    assert docs.stats() == before


def test_progress_adds_up_and_acknowledges_every_file(docs: Collection, embedder: WordHashEmbedder,
                                                      folder: Path) -> None:
    events: list[IngestProgress] = []
    acknowledged: list[str] = []

    def listen(event: IngestProgress) -> None:
        events.append(event)
        for uri in event.committed:
            assert uri in docs.sources()  # acknowledged means committed
            acknowledged.append(uri)

    report = ingest([folder], docs, embedder, progress=listen)
    assert sorted(acknowledged) == sorted(docs.sources())
    assert (events[-1].files_done, events[-1].files_total) == (3, 3)
    assert events[-1].bytes_done == events[-1].bytes_total > 0
    assert events[-1].chunks == report.chunks
    for earlier, later in pairwise(events):
        assert later.bytes_done >= earlier.bytes_done
        assert later.files_done >= earlier.files_done


def test_interruption_leaves_whole_files_and_the_next_run_completes(docs: Collection, tmp_path: Path) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for number in range(30):
        (root / f"{number:02d}.txt").write_text("\n\n".join(f"Paragraph {number} {i} " + "word " * 60
                                                            for i in range(40)), encoding="utf-8")
    windows = 0

    def interrupt(texts: Sequence[str]) -> None:
        nonlocal windows
        windows += 1
        if windows == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest([root], docs, WordHashEmbedder(interrupt))
    done = docs.sources()
    assert 0 < len(done) < 30
    assert sum(source.chunks for source in done.values()) == docs.stats().records
    report = ingest([root], docs, WordHashEmbedder())
    assert (report.added, report.unchanged) == (30 - len(done), len(done))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["one", "two two", "", "셋"]), min_size=1),
                min_size=1, max_size=4))
def test_any_history_of_a_folder_ends_like_a_fresh_ingest(tmp_path: Path, states: list[dict[str, str]]) -> None:
    embedder = WordHashEmbedder()
    work = tmp_path / "history"
    shutil.rmtree(work, ignore_errors=True)
    root = work / "folder"
    database = Database(work / "ws")
    grown = database.create("grown", embedder.dim)
    for state in states:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        for name, text in state.items():
            (root / f"{name}.txt").write_text(text, encoding="utf-8")
        ingest([root], grown, embedder)
    fresh = database.create("fresh", embedder.dim)
    ingest([root], fresh, embedder)
    assert grown.list_ids().ids == fresh.list_ids().ids
    assert grown.sources().keys() == fresh.sources().keys()
    database.close()
