"""Pictures with captions in every layout: the same pairs, nothing from outside, and errors that say where."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from madang.base.errors import InvalidInput, NotFound, Unreadable
from madang.multimodal.pairs import Captioned, pictures_in, read_beside, read_pairs, split

TEXTS = {"a.png": "a red star", "b.png": "빨간 별, \"크다\"", "c.png": "two\nlines"}
COLOURS = {"a.png": "red", "b.png": "green", "c.png": "blue"}


def pictures(folder: Path, names: Sequence[str] = tuple(TEXTS)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (3, 2), COLOURS.get(name, "black")).save(folder / name)
    return folder


def rows(column: str = "text", image: str = "file_name") -> list[dict[str, Any]]:
    return [{image: name, column: text, "seed": at, "nothing": None} for at, (name, text) in enumerate(TEXTS.items())]


def json_lines(root: Path) -> Path:
    (pictures(root) / "metadata.jsonl").write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows()))
    return root


def json_lines_with_a_mark(root: Path) -> Path:
    lines = "\r\n".join(json.dumps(row) for row in rows("caption", "image_name"))
    (pictures(root / "deep").parent / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    return root


def table_of_text(root: Path) -> Path:
    with (pictures(root) / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", "text", "seed", "nothing"])
        writer.writeheader()
        writer.writerows(rows())
    return root


def described_by_parquet(root: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows("prompt", "image_name")), pictures(root) / "metadata.parquet")
    return root


def diffusion_db(root: Path) -> Path:
    for number, names in enumerate((["a.png", "b.png"], ["c.png"]), start=1):
        part = pictures(root / f"part-{number:06d}", names)
        found = {name: {"p": TEXTS[name], "se": 5, "c": 7.5, "st": 50, "sa": "k_lms"} for name in names}
        (part / f"part-{number:06d}.json").write_text(json.dumps(found))
    return root


def texts_beside(root: Path) -> Path:
    pictures(root)
    for name, text in TEXTS.items():
        (root / name).with_suffix(".txt").write_text(f"{text}\n", encoding="utf-8")
    return root


def one_parquet(root: Path) -> Path:
    cells = [{"image": {"bytes": (pictures(root / "away") / name).read_bytes(), "path": name}, "text": text, "seed": at}
             for at, (name, text) in enumerate(TEXTS.items())]
    pq.write_table(pa.Table.from_pylist(cells), root / "train.parquet", row_group_size=2)
    return root / "train.parquet"


def folder_of_parquet(root: Path) -> Path:
    cells = [{"image": (pictures(root.parent / "away") / name).read_bytes(), "caption": text} for name, text in TEXTS.items()]
    (root / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(cells), root / "data" / "train-00000.parquet")
    return root


LAYOUTS: list[Callable[[Path], Path]] = [json_lines, json_lines_with_a_mark, table_of_text, described_by_parquet, diffusion_db,
                                         texts_beside, one_parquet, folder_of_parquet]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_the_same_pairs(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    found = read_pairs(layout(tmp_path / "data"))
    originals = pictures(tmp_path / "originals")
    assert [each.text for each in found] == list(TEXTS.values())
    assert [each.read() for each in found] == [(originals / name).read_bytes() for name in TEXTS]
    assert [each.read() for each in reversed(found)] == [(originals / name).read_bytes() for name in reversed(TEXTS)]
    names = [each.name for each in found]
    assert names == sorted(set(names))
    assert read_pairs(str(layout(tmp_path / "again"))) is not found


@pytest.mark.parametrize(("layout", "expected"), [
    (json_lines, {"seed": 1}), (table_of_text, {"seed": "1", "nothing": ""}), (described_by_parquet, {"seed": 1}),
    (one_parquet, {"seed": 1}), (texts_beside, {}), (diffusion_db, {"seed": 5, "cfg": 7.5, "step": 50, "sampler": "k_lms"}),
])
def test_what_else_is_known_is_kept(tmp_path: Path, layout: Callable[[Path], Path], expected: dict[str, Any]) -> None:
    assert read_pairs(layout(tmp_path / "data"))[1].about == expected


def test_names_are_those_of_the_files(tmp_path: Path) -> None:
    assert [each.name for each in read_pairs(json_lines_with_a_mark(tmp_path / "one"))] == [f"deep/{name}" for name in TEXTS]
    assert [each.name for each in read_pairs(diffusion_db(tmp_path / "two"))] == [
        "part-000001/a.png", "part-000001/b.png", "part-000002/c.png"]


def test_a_folder_for_each_label(tmp_path: Path) -> None:
    pictures(tmp_path / "sea_lion", ["a.png", "b.png"])
    pictures(tmp_path / "cat" / "deep", ["c.png"])
    pictures(tmp_path, ["d.png"])     # it has no label
    assert [(each.name, each.text) for each in read_pairs(tmp_path)] == [
        ("cat/deep/c.png", "cat"), ("sea_lion/a.png", "sea lion"), ("sea_lion/b.png", "sea lion")]


def test_pictures_without_a_caption_are_left_out(tmp_path: Path) -> None:
    texts_beside(tmp_path)
    (tmp_path / "b.txt").unlink()
    (tmp_path / "notes.txt").write_text("nothing")
    assert [each.name for each in read_pairs(tmp_path)] == ["a.png", "c.png"]
    metadata = tmp_path / "metadata.jsonl"
    metadata.write_text('{"file_name": "a.png", "text": ""}\n\n{"file_name": "b.png", "text": "x"}\n{"file_name": "c.png"}\n')
    assert [each.name for each in read_pairs(tmp_path)] == ["b.png"]


def test_the_column_of_texts_can_be_named(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "one", "title": "other"}\n')
    assert read_pairs(tmp_path)[0].text == "one"
    assert read_pairs(tmp_path, text_column="title")[0].text == "other"
    with pytest.raises(InvalidInput, match=r"^text_column: .*metadata\.jsonl has no 'tilte', but file_name, text, title"):
        read_pairs(tmp_path, text_column="tilte")


@pytest.mark.parametrize("layout", [table_of_text, described_by_parquet, diffusion_db, one_parquet])
def test_a_column_that_is_missing_is_named(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    with pytest.raises(InvalidInput, match=r"^text_column: .* has no 'tilte', but "):
        read_pairs(layout(tmp_path / "data"), text_column="tilte")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_a_caption_may_have_any_character_that_json_allows(tmp_path: Path, separator: str) -> None:
    pictures(tmp_path)
    row = json.dumps({"file_name": "a.png", "text": f"one{separator}two"}, ensure_ascii=False)
    (tmp_path / "metadata.jsonl").write_text(f"{row}\n", encoding="utf-8")
    assert read_pairs(tmp_path)[0].text == f"one{separator}two"


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        read_pairs(tmp_path / "nowhere")


@pytest.mark.parametrize("names", [[], ["a.png"]])
def test_a_folder_without_captions_is_refused(tmp_path: Path, names: list[str]) -> None:
    pictures(tmp_path, names)
    with pytest.raises(InvalidInput, match="has no picture with a caption"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(("file", "content", "message"), [
    ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n{"file_name": \n', r"metadata\.jsonl, line 2: not JSON"),
    ("metadata.jsonl", b'\n\n{"file_name": "a.png", "text": "x"}\n{bad\n', r"metadata\.jsonl, line 4: not JSON"),
    ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n["a.png"]\n', r"metadata\.jsonl, line 2: not a JSON object"),
    ("metadata.jsonl", b'{"file_name": "a.png", "text": "\xff"}\n', r"metadata\.jsonl is not UTF-8"),
    ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n{"file_name": "z.png", "text": "x"}\n',
     r"metadata\.jsonl, line 2: z\.png is no picture"),
    ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n\n{"file_name": "z.png", "text": "x"}\n',
     r"metadata\.jsonl, line 3: z\.png is no picture"),
    ("metadata.jsonl", b'{"text": "x"}\n', r"metadata\.jsonl, line 1: no file_name"),
    ("metadata.csv", b"file_name,text\na.png,x\nz.png,x\n", r"metadata\.csv, line 3: z\.png is no picture"),
    ("metadata.csv", b"file_name,text\na.png,caf\xe9\n", r"metadata\.csv"),
    ("metadata.parquet", b"PAR1 nonsense", r"metadata\.parquet"),
    ("other.parquet", b"PAR1 nonsense", r"other\.parquet is no Parquet file"),
    ("part-1.json", b"{", r"part-1\.json is not JSON"), ("part-1.json", b"[]", r"part-1\.json is not a JSON object"),
    ("part-1.json", b'{"a.png": "a prompt"}', r"part-1\.json"),
    ("a.txt", b"\xff\xfe\xff", r"a\.txt is not UTF-8"),
])
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (pictures(tmp_path) / file).write_bytes(content)
    with pytest.raises(Unreadable, match=message):
        read_pairs(tmp_path)


def test_a_very_long_caption_in_a_table(tmp_path: Path) -> None:
    (pictures(tmp_path) / "metadata.csv").write_text(f"file_name,text\na.png,{'word ' * 40_000}\n")
    assert len(read_pairs(tmp_path)[0].text) == 5 * 40_000 - 1


def test_a_parquet_file_without_pictures_names_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["x"], "text": ["y"]}), tmp_path / "links.parquet")
    with pytest.raises(Unreadable, match=r"links\.parquet has no column of pictures .* but url, text"):
        read_pairs(tmp_path / "links.parquet")


def test_a_row_without_bytes_is_named_when_it_is_read(tmp_path: Path) -> None:
    cells = [{"image": {"bytes": b"x", "path": None}, "text": "one"}, {"image": {"bytes": None, "path": "a.png"}, "text": "two"}]
    pq.write_table(pa.Table.from_pylist(cells), tmp_path / "train.parquet")
    one, two = read_pairs(tmp_path / "train.parquet")
    assert one.read() == b"x"
    with pytest.raises(Unreadable, match=r"train\.parquet, row group 0, row 1: no bytes"):
        two.read()


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        pq.write_table(pa.Table.from_pylist([{"image": {"bytes": content}, "text": "x"}]), tmp_path / "train.parquet")
        assert read_pairs(tmp_path / "train.parquet")[0].read() == content


def test_files_of_one_name_keep_names_of_their_own(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        pq.write_table(pa.Table.from_pylist([{"image": folder.encode(), "text": folder}]), tmp_path / folder / "0.parquet")
    found = read_pairs(tmp_path)
    assert [each.read() for each in found] == [b"one", b"two"]
    assert len({each.name for each in found}) == 2


@pytest.mark.parametrize("name", ["../x.png", "sub/../../x.png", "{outside}/x.png", "link.png", "linked/x.png"])
@pytest.mark.parametrize("file", ["metadata.jsonl", "metadata.csv"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str, file: str) -> None:
    root = pictures(tmp_path / "data")
    (root / "sub").mkdir()
    pictures(tmp_path, ["x.png"])
    (root / "link.png").symlink_to(tmp_path / "x.png")
    (root / "linked").symlink_to(tmp_path)
    name = name.format(outside=tmp_path)
    (root / file).write_text(json.dumps({"file_name": name, "text": "secret"}) if file.endswith("l")
                             else f"file_name,text\n{name},secret\n")
    with pytest.raises(Unreadable, match="is no picture in"):
        read_pairs(root)


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    root = texts_beside(tmp_path / "data")
    outside = pictures(tmp_path / "outside", ["x.png"])
    (outside / "x.txt").write_text("secret")
    (root / "x.png").symlink_to(outside / "x.png")
    (root / "x.txt").write_text("a caption")
    (root / "linked").symlink_to(outside)
    (root / "inside.png").symlink_to(root / "a.png")
    assert [path.name for path in pictures_in(root)] == ["a.png", "b.png", "c.png", "inside.png"]
    assert [each.name for each in read_pairs(root)] == list(TEXTS)


def test_captions_behind_links_that_lead_out_are_not_read(tmp_path: Path) -> None:
    root = texts_beside(tmp_path / "data")
    (tmp_path / "outside.txt").write_text("secret")
    (root / "a.txt").unlink()
    (root / "a.txt").symlink_to(tmp_path / "outside.txt")
    assert "secret" not in [each.text for each in read_pairs(root)]


def test_pictures_behind_links_that_lead_out_are_not_read_by_diffusion_db(tmp_path: Path) -> None:
    root = diffusion_db(tmp_path / "data")
    (tmp_path / "outside.png").write_bytes(b"secret")
    (root / "part-000001" / "a.png").unlink()
    (root / "part-000001" / "a.png").symlink_to(tmp_path / "outside.png")
    assert b"secret" not in [each.read() for each in read_pairs(root)]


def test_whole_paths_inside_are_read_from_wherever_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = pictures(tmp_path / "data")
    (root / "metadata.jsonl").write_text(json.dumps({"file_name": str(root / "a.png"), "text": "x"}))
    assert [each.name for each in read_pairs(root)] == ["a.png"]
    monkeypatch.chdir(tmp_path)
    assert [each.name for each in read_pairs(f".{os.sep}data")] == ["a.png"]


def captioned(names: Sequence[str]) -> list[Captioned]:
    return [Captioned(name, "text", bytes) for name in names]


@given(st.lists(st.text(max_size=12), unique=True, max_size=60), st.floats(0, 1), st.randoms(use_true_random=False))
def test_a_split_depends_on_names_alone(names: list[str], share: float, random: Any) -> None:
    pairs = captioned([name.encode("utf-8", "replace").decode() for name in names])
    kept, away = split(pairs, share)
    assert sorted(each.name for each in kept + away) == sorted(each.name for each in pairs)
    assert [each for each in pairs if each in kept] == kept
    shuffled = random.sample(pairs, len(pairs))
    held = {each.name for each in away}
    assert {each.name for each in split(shuffled, share)[1]} == held
    assert {each.name for each in split(pairs[:9], share)[1]} == held & {each.name for each in pairs[:9]}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 1.0])
def test_a_split_is_about_as_large_as_asked(share: float) -> None:
    for names in ([f"part-{number:06d}/{number}.png" for number in range(20_000)],
                  [f"train.parquet#{number:08d}" for number in range(20_000)]):
        kept, away = split(captioned(names), share)
        assert len(kept) + len(away) == 20_000
        assert len(away) == pytest.approx(20_000 * share, abs=6 * (20_000 * share * (1 - share)) ** 0.5)
    smaller = {each.name for each in split(captioned(names), share / 2)[1]}
    assert smaller <= {each.name for each in away}


def test_one_picture_is_read_with_what_lies_beside_it_and_nothing_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's home may hold a million pictures below."""
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(b"picture")
    (tmp_path / "b.txt").write_text("a star\n", encoding="utf-8")
    monkeypatch.setattr(Path, "rglob", lambda *_: pytest.fail("looked below"))
    assert read_beside(tmp_path / "b.png").text == "a star"
    assert read_beside(tmp_path / "c.png").text == ""
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a ring", "scene": "{}"}\n', encoding="utf-8")
    found = read_beside(tmp_path / "a.png")
    assert (found.text, found.about["scene"], found.read()) == ("a ring", "{}", b"picture")
    (tmp_path / "metadata.jsonl").write_text("no JSON", encoding="utf-8")
    assert read_beside(tmp_path / "a.png").text == ""
