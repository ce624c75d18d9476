"""Pictures into a collection: what is new, what changed, what is gone, what is like another, what cannot be read."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from madang.base.errors import InvalidInput, MissingDependency, NotFound
from madang.multimodal import images, near
from madang.multimodal.frames import frames
from madang.multimodal.images import DUPLICATE, ImageProgress, ImageReport, Thumbnails, ingest_images
from madang.multimodal.search import search_images
from madang.store import Collection, Database
from tests.multimodal.seeing import SeesColours, coded, noise


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    database = Database(tmp_path / "ws")
    yield database.create("images", SeesColours.dim, "cosine", "hnsw", SeesColours.signature)
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    (made / "deep").mkdir(parents=True)
    for at in range(6):
        (made / ("deep" if at % 2 else "") / f"{at}.png").write_bytes(coded(noise(at)))
    return made


def take(collection: Collection, *paths: Path, model: SeesColours | None = None) -> ImageReport:
    return ingest_images(list(paths), collection, model or SeesColours(), kept(collection))


def kept(collection: Collection) -> Thumbnails:
    return Thumbnails(Path(collection._path).parent / "thumbnails")


def ids(collection: Collection) -> set[str]:
    return set(collection.list_ids(limit=1000).ids)


def test_only_what_changed_is_done_again(collection: Collection, folder: Path) -> None:
    model = SeesColours()
    first = take(collection, folder, model=model)
    assert (first.added, first.pictures, first.failed, model.seen) == (6, 6, 0, 6)
    assert ids(collection) == {str(path) for path in folder.rglob("*.png")}
    again = take(collection, folder, model=model)
    assert (again.unchanged, again.added, again.pictures, model.seen) == (6, 0, 0, 6)
    (folder / "0.png").write_bytes(coded(noise(100)))
    (folder / "deep" / "1.png").unlink()
    (folder / "new.png").write_bytes(coded(noise(101)))
    third = take(collection, folder, model=model)
    assert (third.added, third.updated, third.removed, third.unchanged, model.seen) == (1, 1, 1, 4, 8)
    assert ids(collection) == {str(path) for path in folder.rglob("*.png")}
    record = collection.fetch([str(folder / "0.png")])[str(folder / "0.png")]
    assert record.values is not None
    assert np.allclose(record.values, SeesColours().embed_images([np.asarray(noise(100))])[0], atol=1e-3)
    assert (record.metadata["width"], record.metadata["height"]) == (96, 96)


def test_thumbnails_are_small_and_tell_nothing_of_the_camera(collection: Collection, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    (folder / "photo.jpg").write_bytes(coded(noise(7, 900), "JPEG", exif=exif, comment=b"SecretComment"))
    take(collection, folder)
    data = kept(collection).read(str(folder / "photo.jpg"))
    thumbnail = Image.open(io.BytesIO(data))
    assert thumbnail.format == "JPEG"
    assert max(thumbnail.size) == images.SIDE
    assert not thumbnail.getexif()
    assert b"Secret" not in data
    (folder / "photo.jpg").unlink()
    take(collection, folder)
    with pytest.raises(NotFound, match=r"photo\.jpg"):
        kept(collection).read(str(folder / "photo.jpg"))


def test_other_sizes_and_qualities_of_a_picture_are_marked(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    original = noise(1, 320)
    (folder / "a.png").write_bytes(coded(original))
    (folder / "b.jpg").write_bytes(coded(original, "JPEG", quality=60))
    assert take(collection, folder).duplicates == 1
    (folder / "c.png").write_bytes(coded(original.resize((150, 150), Image.Resampling.LANCZOS)))    # in a later run
    (folder / "d.png").write_bytes(coded(noise(2, 320)))
    assert take(collection, folder).duplicates == 1
    of = {id_: record.metadata[DUPLICATE] for id_, record in collection.fetch(sorted(ids(collection))).items()}
    assert of == {str(folder / "a.png"): "", str(folder / "b.jpg"): str(folder / "a.png"),
                  str(folder / "c.png"): str(folder / "a.png"), str(folder / "d.png"): ""}


def test_a_copy_is_found_where_the_first_is_gone_by_whichever_door(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    for name, quality in (("a", 95), ("b", 60), ("c", 30)):
        (folder / f"{name}.jpg").write_bytes(coded(noise(1, 320), "JPEG", quality=quality))
    assert take(collection, folder).duplicates == 2

    def found() -> list[str]:
        return [Path(hit.id).name for hit in search_images(collection, SeesColours(), picture=np.asarray(noise(1, 320)))]

    assert len(found()) == 1
    collection.remove_sources([str(folder / "a.jpg")])
    assert found() in (["b.jpg"], ["c.jpg"])
    take(collection, folder)
    assert len(found()) == 1
    assert len(ids(collection)) == 3


def test_a_slow_pan_is_no_single_picture(collection: Collection, tmp_path: Path) -> None:
    wide = noise(4, 900)
    (tmp_path / "pan").mkdir()
    for at in range(120):
        (tmp_path / "pan" / f"{at:03d}.png").write_bytes(coded(wide.crop((5 * at, 0, 5 * at + 300, 300))))
    take(collection, tmp_path / "pan")
    records = collection.fetch(sorted(ids(collection)))
    originals = {id_ for id_, record in records.items() if not record.metadata[DUPLICATE]}
    assert len(originals) > 5
    for record in records.values():
        of = record.metadata[DUPLICATE]
        if of:
            assert of in originals
            assert near.apart(str(record.metadata["fingerprint"]),
                              str(records[str(of)].metadata["fingerprint"])) <= near.MOST_APART


def test_a_mirrored_picture_of_the_same_colours_is_no_copy() -> None:
    picture = noise(3, 128)
    mine, other = near.fingerprint(picture), near.fingerprint(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert near.apart(mine, mine) == 0
    assert near.apart(mine, other) > near.MOST_APART
    assert not near.alike(mine, other, 1.0)
    assert not near.alike(mine, mine, near.LEAST_COSINE - 0.01)


def test_what_cannot_be_read_is_reported_and_the_rest_is_taken(collection: Collection, folder: Path) -> None:
    (folder / "text.png").write_text("not a picture")
    (folder / "cut.jpg").write_bytes(coded(noise(50), "JPEG")[:200])
    bomb = bytearray(coded(Image.new("1", (16, 16))))
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2
    (folder / "bomb.png").write_bytes(bytes(bomb))
    (folder / "cmyk.jpg").write_bytes(coded(noise(51).convert("CMYK"), "JPEG"))
    report = take(collection, folder)
    assert report.added == 7
    assert {Path(problem.path).name for problem in report.problems} == {"text.png", "cut.jpg", "bomb.png"}
    assert all(Path(problem.path).name in problem.message for problem in report.problems)
    assert str(folder / "cmyk.jpg") in ids(collection)


def test_captions_are_kept_and_a_new_one_counts_as_a_change(collection: Collection, folder: Path) -> None:
    lines = [{"file_name": "0.png", "text": "a first picture", "year": 2020}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert take(collection, folder).added == 6       # those without a caption, too
    record = collection.fetch([str(folder / "0.png")])[str(folder / "0.png")]
    assert (record.document, record.metadata["year"]) == ("a first picture", 2020)
    lines[0]["text"] = "another"
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    again = take(collection, folder)
    assert (again.updated, again.unchanged) == (1, 5)
    assert collection.query(text="another").matches[0].id == str(folder / "0.png")


def test_interrupted_it_keeps_what_was_committed(collection: Collection, folder: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_WINDOW", 2)

    def stop(now: ImageProgress) -> None:
        if now.pictures == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_images([folder], collection, SeesColours(), kept(collection), progress=stop)
    assert len(ids(collection)) == 4
    report = take(collection, folder)
    assert (report.unchanged, report.added) == (4, 2)


def test_links_out_of_the_folder_are_not_followed(collection: Collection, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.png").write_bytes(coded(noise(9)))
    os.symlink(tmp_path / "elsewhere.png", folder / "link.png")
    take(collection, folder)
    assert not any(id_.endswith("link.png") for id_ in ids(collection))


def test_nothing_there_is_refused(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        take(collection, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no picture"):
        take(collection, tmp_path / "empty")
    with pytest.raises(InvalidInput, match="every_s"):
        ingest_images([tmp_path], collection, SeesColours(), kept(collection), every_s=0)


def test_names_longer_than_an_id_may_be(collection: Collection, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["x" * 200] * 3)
    deep.mkdir(parents=True)
    (deep / "a.png").write_bytes(coded(noise(1)))
    (deep / "b.png").write_bytes(coded(noise(2)))
    assert take(collection, tmp_path / ("x" * 200)).added == 2
    assert len(ids(collection)) == 2
    assert take(collection, tmp_path / ("x" * 200)).unchanged == 2


# --- videos ---

def video(path: Path, seconds: int = 6, rate: int = 10) -> None:
    """A second red, a second green, and so on."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for at in range(seconds * rate):
            colour = [(255, 0, 0), (0, 255, 0), (0, 0, 255)][at // rate % 3]
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), "rgb24")
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)


def test_frames_come_at_their_times(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4")
    found = list(frames(tmp_path / "v.mp4", 1.0))
    assert [round(at) for at, _ in found] == [0, 1, 2, 3, 4, 5]
    assert [int(np.asarray(picture).reshape(-1, 3).mean(0).argmax()) for _, picture in found] == [0, 1, 2, 0, 1, 2]


def test_a_video_is_searched_by_its_frames(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    video(folder / "v.mp4", seconds=3)
    (folder / "broken.mp4").write_bytes(b"\0" * 500)
    report = ingest_images([folder], collection, SeesColours(), kept(collection), every_s=1.0)
    assert (report.added, report.pictures, report.failed) == (1, 3, 1)
    best = collection.query(vector=SeesColours().embed(["blue"])[0], top_k=1).matches[0]
    assert best.metadata is not None
    assert best.metadata["time_s"] == pytest.approx(2.0, abs=0.11)
    assert best.metadata["path"] == str(folder / "v.mp4")
    (folder / "v.mp4").unlink()
    ingest_images([folder], collection, SeesColours(), kept(collection))
    assert not ids(collection)


def test_without_the_library_for_videos_the_message_says_what_to_install(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependency, match=r"madang\[video\]"):
        next(frames(tmp_path / "v.mp4", 1.0))


# --- what broke it once ---

def test_a_picture_of_one_pixel_by_a_million_costs_nothing(collection: Collection, folder: Path) -> None:
    (folder / "thin.png").write_bytes(coded(Image.new("RGB", (1, 1_000_000))))
    (folder / "flat.png").write_bytes(coded(Image.new("RGB", (30_000_000, 1))))
    report = take(collection, folder)
    assert (report.added, report.failed) == (8, 0)
    assert max(Image.open(io.BytesIO(kept(collection).read(str(folder / "thin.png")))).size) == images.SIDE


def test_a_large_photograph_has_the_size_of_its_file(collection: Collection, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6                 # lies on its side
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "upright.jpg").write_bytes(coded(noise(1, 3000).resize((4000, 3000)), "JPEG"))
    (tmp_path / "p" / "turned.jpg").write_bytes(coded(noise(2, 3000).resize((4000, 3000)), "JPEG", exif=exif))
    take(collection, tmp_path / "p")
    found = {Path(id_).stem: (record.metadata["width"], record.metadata["height"])
             for id_, record in collection.fetch(sorted(ids(collection))).items()}
    assert found == {"upright": (4000, 3000), "turned": (3000, 4000)}


def test_a_folder_whose_name_begins_like_anothers_keeps_its_pictures(collection: Collection, tmp_path: Path) -> None:
    for at, name in enumerate(("pics", "pics#2", "#1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(coded(noise(at)))
        take(collection, tmp_path / name)
    assert take(collection, tmp_path / "pics").removed == 0
    assert len(ids(collection)) == 3
    (tmp_path / "#1" / "a.png").unlink()
    assert take(collection, tmp_path / "#1").removed == 1


def table(path: Path, seeds: range, **more: list[object]) -> None:
    pa.parquet.write_table(pa.table({"image": [{"bytes": coded(noise(at)), "path": f"{at}.png"} for at in seeds], **more}), path)


def test_tables_beside_pictures(collection: Collection, folder: Path) -> None:
    take(collection, folder)
    table(folder / "more.parquet", range(20, 23))                                     # without captions
    pa.parquet.write_table(pa.table({"a": [1, 2]}), folder / "notes.parquet")         # of something else
    report = take(collection, folder)
    assert (report.unchanged, report.added, report.removed, len(ids(collection))) == (6, 3, 0, 9)
    assert ["notes.parquet" in problem.message for problem in report.problems] == [True]
    table(folder / "more.parquet", range(20, 22))
    assert take(collection, folder).removed == 1


def test_a_table_under_another_name_keeps_all_rows(collection: Collection, tmp_path: Path) -> None:
    table(tmp_path / "t.parquet", range(3), text=["one", "two", "three"])
    ingest_images([tmp_path / "t.parquet"], collection, SeesColours(), kept(collection),
                  uris={tmp_path / "t.parquet": "upload:t.parquet"}, captions={})
    found = collection.fetch(sorted(ids(collection)))
    assert {id_: record.document for id_, record in found.items()} == {
        f"upload:t.parquet#{at:08d}": text for at, text in enumerate(("one", "two", "three"))}


def test_one_bad_name_caption_or_value_stops_nobody_else(collection: Collection, folder: Path) -> None:
    with open(bytes(folder) + b"/b\xff.png", "wb") as file:
        file.write(coded(noise(60)))
    (folder / "5.txt").write_bytes("caf\xe9".encode("latin-1"))
    lines = ['{"file_name": "0.png", "text": "a\\ud800"}', '{"file_name": "2.png", "text": "fine", "cfg": NaN}',
             '{"file_name": "gone.png", "text": "of one that is gone"}', '{"file_name": "4.png", "text": "fine"}']
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    report = take(collection, folder)
    assert report.added == 4             # 1, 3, 4, 5
    told = " ".join(problem.message for problem in report.problems)
    assert [name for name in ("udcff", "0.png", "cfg", "gone.png") if name not in told] == [], told
    assert len(report.problems) == 4


def test_a_file_that_is_no_picture_is_told_as_such(collection: Collection, folder: Path) -> None:
    (folder / "n.heic").write_bytes(b"abc")
    report = take(collection, folder / "n.heic", folder / "0.png")
    assert (report.added, report.failed) == (1, 1)
    assert "no picture, video or Parquet" in report.problems[0].message


def test_a_lost_thumbnail_is_made_again(collection: Collection, folder: Path) -> None:
    take(collection, folder)
    kept(collection).drop(str(folder / "0.png"))
    report = take(collection, folder)
    assert (report.unchanged, report.updated) == (5, 1)
    assert kept(collection).read(str(folder / "0.png"))


def test_what_lies_in_a_hidden_or_excluded_folder_is_left_alone(collection: Collection, folder: Path, tmp_path: Path) -> None:
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "h.png").write_bytes(coded(noise(70)))
    os.symlink(folder, tmp_path / "link")
    ingest_images([tmp_path / "link"], collection, SeesColours(), kept(collection), exclude=[folder / "deep"])
    assert {Path(id_).name for id_ in ids(collection)} == {"0.png", "2.png", "4.png"}


def test_another_rate_of_frames_leaves_pictures_alone(collection: Collection, folder: Path) -> None:
    take(collection, folder)
    report = ingest_images([folder], collection, SeesColours(), kept(collection), every_s=1.0)
    assert report.unchanged == 6
