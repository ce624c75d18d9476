"""Collections of pictures in a workspace: made, asked, dropped, and told from others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import madang
from madang.base.errors import Conflict, InvalidInput, NotFound
from madang.multimodal.scenes import paint, prompt, scene
from madang.multimodal.scenes.dataset import write
from madang.workspace import Workspace


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write(tmp_path / "scenes", 8, split="held-out", side=64)
    return tmp_path / "scenes"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with madang.open(tmp_path / "ws") as made:
        yield made


def test_a_picture_may_be_a_path_bytes_or_pixels(ws: Workspace, pictures: Path) -> None:
    assert ws.ingest_images(pictures).added == 8
    path = pictures / "0000004.png"
    for given in (path, path.read_bytes(), np.asarray(paint(scene(4, "held-out"), 4))):
        assert ws.search_images(given, top_k=1)[0].id == str(path)
    text = prompt(scene(4, "held-out"), 4, split="held-out")
    assert ws.search_images(text, picture=path, top_k=1)[0].id == str(path)
    with pytest.raises(InvalidInput, match="two pictures"):
        ws.search_images(path, picture=path)
    with pytest.raises(InvalidInput, match="is text"):
        ws.search_images("a", picture=str(path))
    with pytest.raises(NotFound, match="none"):
        ws.search_images(pictures / "none.png")


def test_words_search_it_like_any_collection(ws: Workspace, pictures: Path) -> None:
    ws.ingest_images(pictures)
    text = prompt(scene(2, "held-out"), 2, split="held-out")
    assert ws.search(text, collection="images", top_k=1)[0].id == str(pictures / "0000002.png")


def test_a_collection_is_of_one_model_and_of_pictures(ws: Workspace, pictures: Path) -> None:
    ws.create_collection("vectors", dim=4)
    with pytest.raises(InvalidInput, match="none of pictures"):
        ws.search_images("a", collection="vectors")
    ws.create_document_collection("docs", embedder="bundled/static")
    with pytest.raises(InvalidInput, match="none of pictures"):
        ws.ingest_images(pictures, collection="docs")
    ws.ingest_images(pictures)
    with pytest.raises(Conflict, match="bundled/clip"):
        ws.ingest_images(pictures, model="transformers/other")
    with pytest.raises(NotFound, match="does not see"):
        ws.ingest_images(pictures, collection="new", model="bundled/minilm")
    assert "new" not in ws.collections()


def test_documents_and_models_of_text_are_kept_out(ws: Workspace, pictures: Path, tmp_path: Path) -> None:
    ws.ingest_images(pictures)
    (tmp_path / "a.md").write_text("# A\n\nText.\n")
    with pytest.raises(InvalidInput, match="is of pictures"):
        ws.ingest(tmp_path / "a.md", collection="images")
    with pytest.raises(InvalidInput, match="is of pictures"):
        ws.reembed("images", "bundled/static")
    assert ws.ingest_images(pictures).unchanged == 8


def test_what_is_dropped_leaves_nothing(ws: Workspace, pictures: Path) -> None:
    ws.ingest_images(pictures)
    assert len(list((ws.path / "images" / "images").rglob("*.jpg"))) == 8
    ws.drop_collection("images")
    assert not (ws.path / "images" / "images").exists()
    with pytest.raises(NotFound):
        ws.pictures.thumbnail("images", str(pictures / "0000001.png"))


def test_where_nothing_can_be_read_no_collection_is_left(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no picture"):
        ws.ingest_images(tmp_path / "empty")
    assert ws.collections() == []


def test_its_own_folder_is_not_ingested(ws: Workspace, pictures: Path, tmp_path: Path) -> None:
    ws.ingest_images(pictures)
    report = ws.ingest_images(tmp_path)       # holds the workspace with its thumbnails
    assert (report.added, report.unchanged) == (0, 8)
