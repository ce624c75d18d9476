from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from madang.base.errors import Conflict, Corrupt, InvalidInput, MissingDependency, NotFound
from madang.base.records import Record, Source
from madang.store import Collection, Database, parquet, snapshots
from madang.store.parquet import Reader, export
from madang.store.parquet_import import Loaded, load
from tests.store.contents import contents_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
KEY = NAME.filter(lambda key: not key.startswith("$"))
VALUE = TEXT | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | \
    st.lists(TEXT, max_size=3)
NUMBER = st.floats(-2.0**50, 2.0**50, width=32)   # longer vectors are refused but for cosine
SPARSE = st.none() | st.dictionaries(st.integers(0, 2**32 - 1), NUMBER, max_size=4).map(
    lambda pairs: {"indices": list(pairs), "values": list(pairs.values())})
RECORD = st.fixed_dictionaries({
    "id": NAME, "values": st.lists(NUMBER, min_size=3, max_size=3), "sparse": SPARSE,
    "metadata": st.dictionaries(KEY, VALUE, max_size=4), "document": st.none() | TEXT, "context": st.none() | TEXT})
SOURCE = st.builds(Source, uri=NAME, content_hash=TEXT, text=TEXT, media_type=TEXT, title=TEXT,
                   size_bytes=st.integers(0, 2**62), pages=st.lists(st.integers(0, 2**40), max_size=3).map(tuple))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    db = Database(tmp_path / "ws")
    yield db
    db.close()


def _directory(collection: Collection, root: Path) -> Path:
    return root / "ws" / "collections" / collection.name


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAME, st.lists(RECORD, max_size=6), max_size=2),
       st.lists(st.tuples(SOURCE, st.lists(RECORD, max_size=3)), max_size=3, unique_by=lambda pair: pair[0].uri),
       st.integers(1, 5))
def test_a_round_trip_is_exact(by_hand: dict[str, list[dict[str, Any]]],
                               documents: list[tuple[Source, list[dict[str, Any]]]], size: int) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(parquet, "_GROUP_ROWS", size)
        patched.setattr("madang.store.parquet_import._BATCH", size)
        root, db = Path(name), Database(Path(name) / "ws")
        docs, back = db.create("docs", 3, "dot"), db.create("back", 3, "dot")
        for source, records in documents:
            docs.replace_sources([(source, [Record(**one) for one in records])], "cut")
        for space, records in by_hand.items():
            docs.upsert(records, space)
        made = export(_directory(docs, root), root / "docs.parquet")
        with Reader(root / "docs.parquet") as reader:
            loaded = load(back, reader)
            again = load(back, reader)
        db.close()
        assert contents_of(_directory(back, root)) == contents_of(_directory(docs, root))
        assert loaded == Loaded(made.records, 0, made.sources)
        assert again == Loaded(0, made.records, 0)


def test_settings_travel(database: Database, tmp_path: Path) -> None:
    docs = database.create("docs", 3, "euclidean", "hnsw", embedder="some model")
    docs.upsert([{"id": "a", "values": [1, 2, 3]}])
    export(_directory(docs, tmp_path), tmp_path / "d.parquet")
    with Reader(tmp_path / "d.parquet") as reader:
        assert reader.settings is not None
        assert (reader.settings.name, reader.settings.dim, reader.settings.metric) == ("docs", 3, "euclidean")
        assert (reader.settings.index["kind"], reader.settings.embedder) == ("hnsw", "some model")
        assert (reader.settings.records, reader.records, reader.dim) == (1, 1, 3)


def test_others_can_read_it(database: Database, tmp_path: Path) -> None:
    docs = database.create("docs", 2)
    docs.upsert([{"id": "가", "values": [0.1, 2], "metadata": {"year": 2024}, "sparse": {"indices": [7], "values": [1]}}])
    export(_directory(docs, tmp_path), tmp_path / "d.parquet")
    (row,) = pq.read_table(tmp_path / "d.parquet").to_pylist()
    assert row == {"id": "가", "namespace": "", "values": [float(np.float32(0.1)), 2.0], "sparse_indices": [7],
                   "sparse_values": [1.0], "metadata": '{"year": 2024}', "document": None, "context": None,
                   "source_uri": None}


def test_a_snapshot_is_exported_as_it_was(database: Database, tmp_path: Path) -> None:
    docs = database.create("docs", 2)
    docs.upsert([{"id": "a", "values": [1, 2]}])
    directory = _directory(docs, tmp_path)
    snapshots.create(directory, "kept")
    docs.upsert([{"id": "b", "values": [1, 2]}])
    export(snapshots.path_of(directory, "kept"), tmp_path / "d.parquet")
    snapshots.verify(directory, "kept")
    assert pq.read_table(tmp_path / "d.parquet").column("id").to_pylist() == ["a"]


def test_export_overwrites_only_when_told_to(database: Database, tmp_path: Path) -> None:
    docs = database.create("docs", 2)
    directory, path = _directory(docs, tmp_path), tmp_path / "d.parquet"
    docs.replace_sources([(Source("u", "h", "text"), [Record("a", np.zeros(2, dtype=np.float32))])])
    export(directory, path)
    assert parquet.sources_path(path).exists()
    with pytest.raises(Conflict):
        export(directory, path)
    docs.remove_sources(["u"])
    export(directory, path, overwrite=True)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["d.parquet", "ws"]
    parquet.sources_path(path).write_bytes(b"another program's")
    path.unlink()
    with pytest.raises(Conflict, match=r"d\.sources\.parquet"):
        export(directory, path)


def test_documents_of_another_export_are_refused(database: Database, tmp_path: Path) -> None:
    docs, back = database.create("docs", 2), database.create("back", 2)
    docs.replace_sources([(Source("u", "h", "text"), [Record("a", np.zeros(2, dtype=np.float32))])])
    for name in ("one", "two"):
        export(_directory(docs, tmp_path), tmp_path / f"{name}.parquet")
    (tmp_path / "two.sources.parquet").replace(tmp_path / "one.sources.parquet")
    with Reader(tmp_path / "one.parquet") as reader, pytest.raises(Corrupt, match="another export"):
        load(back, reader)
    with Reader(tmp_path / "two.parquet") as reader:
        with pytest.raises(NotFound, match="cut from documents"):
            load(back, reader)
        assert load(back, reader, sources=False) == Loaded(1, 0, 0)
    assert list(back.fetch(["a"])) == ["a"]


def test_an_interrupted_import_goes_on(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("madang.store.parquet_import._BATCH", 10)
    docs, back = database.create("docs", 2), database.create("back", 2)
    docs.upsert([{"id": f"r{n}", "values": [n, 1]} for n in range(45)])
    for n in range(8):
        docs.replace_sources([(Source(f"u{n}", "h", "text"),
                               [Record(f"u{n}-{m}", np.full(2, m, dtype=np.float32)) for m in range(4)])])
    export(_directory(docs, tmp_path), tmp_path / "d.parquet")

    def stop(done: int, total: int) -> None:
        assert total == 77
        if done >= stopping:
            raise KeyboardInterrupt

    skipped = []
    for stopping in (20, 57, 1000):
        with Reader(tmp_path / "d.parquet") as reader:
            try:
                skipped.append(load(back, reader, progress=stop))
            except KeyboardInterrupt:
                assert stopping < 1000
    (last,) = skipped
    assert (last.written + last.skipped, last.skipped >= 57) == (77, True)
    assert contents_of(_directory(back, tmp_path)) == contents_of(_directory(docs, tmp_path))


# Other programs' files

def _rows(path: Path, **options: Any) -> list[Record]:
    with Reader(path, **options) as reader:
        return [item.record for batch in reader.items(2) for item in batch]


@pytest.mark.parametrize("name", ["values", "vector", "embedding"])
@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 2),
                                  pa.list_(pa.int8())], ids=str)
def test_vectors_of_any_name_and_type(tmp_path: Path, name: str, kind: Any) -> None:
    rows = [[1, 2], [3, 4], [5, 6]]
    whole = np.float16 if kind == pa.list_(pa.float16(), 2) else float
    numbers = pa.array([[whole(x) for x in row] for row in rows], kind) if kind != pa.list_(pa.int8()) else pa.array(rows, kind)
    pq.write_table(pa.table({"id": [7, 8, 9], name: numbers}), tmp_path / "f.parquet")
    found = _rows(tmp_path / "f.parquet")
    assert [one.id for one in found] == ["7", "8", "9"]
    assert [one.values.tolist() for one in found if one.values is not None] == rows
    assert all(one.values is not None and one.values.dtype == np.float32 for one in found)


def test_plain_columns_become_metadata_of_their_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({
        "id": pa.array(["a", "b"]).dictionary_encode(), "vector": [[1.0], [2.0]], "document": ["text", None],
        "namespace": [None, "n"], "whole": [1, None], "broken": [1.0, float("nan")], "yes": [True, None],
        "words": [["x", "y"], None], "day": [date(2024, 2, 29), None], "sort": pa.array(["c", "d"]).dictionary_encode(),
        "__index_level_0__": [0, 1], "metadata": ['{"whole": 2.0, "own": "z"}', None]}), tmp_path / "f.parquet")
    with Reader(tmp_path / "f.parquet") as reader:
        (batch,) = reader.items()
        assert (reader.settings, reader.dim, reader.records) == (None, 1, 2)
    one, other = (item.record for item in batch)
    assert [item.namespace for item in batch] == ["", "n"]
    assert json.dumps(one.metadata, sort_keys=True) == json.dumps({
        "whole": 2.0, "own": "z", "broken": 1.0, "yes": True, "words": ["x", "y"], "day": "2024-02-29", "sort": "c"},
        sort_keys=True)
    assert (one.document, other.document, other.metadata) == ("text", None, {"sort": "d"})


def test_a_struct_is_metadata(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "vector": [[1.0]], "metadata": [{"n": 1, "nothing": None, "x": 0.5}]}),
                   tmp_path / "f.parquet")
    (found,) = _rows(tmp_path / "f.parquet")
    assert json.dumps(found.metadata) == '{"n": 1, "x": 0.5}'


@pytest.mark.parametrize(("columns", "said"), [
    ({"vector": [[1.0]]}, "has no column 'id'"), ({"id": ["a"]}, "no column of vectors; the columns are: id"),
    ({"id": ["a"], "vector": ["text"]}, "no column of vectors"),
    ({"id": ["a", "b", "c"], "vector": [[1.0], [2.0], [1.0, 2.0]]}, "row 2: vector has dimension 2, not 1"),
    ({"id": ["a", "b", "c"], "vector": [[1.0], [2.0], None]}, "row 2 has no vector"),
    ({"id": ["a", "b", "c"], "vector": [[1.0, 2.0], [2.0, 3.0], [1.0, None]]}, "row 2: vector holds a null"),
    ({"id": ["a", "b", None], "vector": [[1.0], [2.0], [3.0]]}, "row 2 has no id"),
    ({"id": [1.5], "vector": [[1.0]]}, "column 'id' holds double"),
    ({"id": ["a"], "vector": [[1.0]], "metadata": ["[1]"]}, "row 0: metadata is not a JSON object"),
    ({"id": ["a"], "vector": [[1.0]], "raw": [b"bytes"]}, "column 'raw' holds b'bytes'.*skip='raw'"),
    ({"id": ["a"], "vector": [[1.0]], "nested": [[1, 2]]}, r"column 'nested' holds \[1, 2\]")])
def test_what_cannot_be_read_is_told_by_row_and_column(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    with pytest.raises(InvalidInput, match=said):
        _rows(tmp_path / "f.parquet")
    if "raw" in columns:
        assert _rows(tmp_path / "f.parquet", skip=["raw"])[0].metadata == {}


def test_another_dimension_and_bad_numbers_are_refused(database: Database, tmp_path: Path) -> None:
    docs = database.create("docs", 2)
    pq.write_table(pa.table({"id": ["a"], "vector": [[1.0]]}), tmp_path / "f.parquet")
    with Reader(tmp_path / "f.parquet") as reader, pytest.raises(InvalidInput, match=r"dimension 1.*'docs' of 2"):
        load(docs, reader)
    for bad in (float("nan"), 1e300):
        pq.write_table(pa.table({"id": ["a"], "vector": [[1.0, bad]]}), tmp_path / "f.parquet")
        with Reader(tmp_path / "f.parquet") as reader, pytest.raises(InvalidInput, match=r"record 'a'.*NaN or infinity"):
            load(docs, reader)
    assert docs.stats().records == 0


# Damage

def test_a_damaged_file_is_told_or_the_same(database: Database, tmp_path: Path) -> None:
    docs, path = database.create("docs", 8), tmp_path / "d.parquet"
    numbers = np.random.default_rng(0).standard_normal((300, 8), dtype=np.float32)
    docs.upsert([{"id": f"r{n}", "values": numbers[n], "metadata": {"n": n}, "document": f"text {n}"}
                 for n in range(300)])
    export(_directory(docs, tmp_path), path)
    whole, generator, told = path.read_bytes(), random.Random(2), 0

    def seen() -> list[tuple[Any, ...]]:
        return [(one.id, one.values.tobytes() if one.values is not None else b"", one.metadata, one.document)
                for one in _rows(path)]

    expected = seen()
    damages = [whole[:size] for size in (0, 3, len(whole) // 2, len(whole) - 1)]
    for _ in range(150):
        at = generator.randrange(len(whole) - 4000)   # the data: Parquet has no checksum for its own footer
        damages.append(whole[:at] + bytes([whole[at] ^ 1 << generator.randrange(8)]) + whole[at + 1:])
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            assert seen() == expected
        except Corrupt:
            told += 1
    assert told > 100


def test_without_the_library_the_command_to_type_is_told(database: Database, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    docs = database.create("docs", 2)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependency, match=r'pip install "madang\[parquet\]"'):
        export(_directory(docs, tmp_path), tmp_path / "d.parquet")
    with pytest.raises(MissingDependency):
        Reader(tmp_path / "d.parquet")
