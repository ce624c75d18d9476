"""Our own routes about pictures, over HTTP, with the bundled model."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import connect_sse

from madang.multimodal.scenes import paint, prompt, scene
from madang.serve.access import Access, Keys
from madang.serve.run import serving
from madang.workspace import Workspace
from tests.multimodal.seeing import coded

SEEDS = range(24)


def uploaded(http: httpx.Client, files: dict[str, bytes], **fields: str) -> dict[str, Any]:
    """What an ingest came to."""
    started = http.post("/api/images/ingest", files=[("files", (name, data)) for name, data in files.items()], data=fields)
    assert started.status_code == 202, started.text
    with connect_sse(http, "GET", f"/api/ingest/{started.json()['id']}/events") as events:
        told = list(events.iter_sse())
    last: dict[str, Any] = json.loads(told[-1].data)
    assert told[-1].event == last["status"]
    return last


@pytest.fixture
def pictures(http: httpx.Client) -> dict[str, bytes]:
    """Scenes with captions, in the collection "images"."""
    files = {f"{seed}.png": coded(paint(scene(seed, "held-out"), seed, side=96)) for seed in SEEDS}
    captions = {f"{seed}.png": prompt(scene(seed, "held-out"), seed, split="held-out") for seed in SEEDS}
    done = uploaded(http, files, captions=json.dumps(captions))
    assert done["status"] == "done", done
    assert (done["report"]["added"], done["report"]["pictures"], done["progress"]["files_done"]) == (24, 24, 24)
    return files


def test_pictures_are_found_by_words_by_a_picture_and_by_both(http: httpx.Client, pictures: dict[str, bytes]) -> None:
    image = base64.b64encode(pictures["3.png"]).decode()
    for sent in (image, f"data:image/png;base64,{image}"):
        found = http.post("/api/images/search", json={"image": sent, "top_k": 3}).json()["pictures"]
        assert found[0]["id"] == "upload:3.png"
        assert found[0]["score"] == pytest.approx(1, abs=1e-2)
    right = 0
    for seed in SEEDS:
        for language in ("en", "ko"):
            text = prompt(scene(seed, "held-out"), 100 + seed, language, split="held-out")  # type: ignore[arg-type]
            best = http.post("/api/images/search", json={"text": text, "top_k": 1}).json()["pictures"][0]
            right += best["id"] == f"upload:{seed}.png"
    assert right > 0.8 * 2 * len(SEEDS)
    both = http.post("/api/images/search", json={"text": "by day", "image": image, "weight": 0.2}).json()["pictures"]
    assert len(both) == 10
    assert both[0]["caption"]
    assert both[0]["relevant"] is None


def test_thumbnails_are_served(http: httpx.Client, pictures: dict[str, bytes]) -> None:
    found = http.post("/api/images/search", json={"text": "a star", "top_k": 1}).json()["pictures"][0]
    answer = http.get(found["thumbnail"])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content[:3] == b"\xff\xd8\xff"
    for path in ("/api/images/images/thumbnail?id=../../../../etc/passwd", "/api/images/none/thumbnail?id=a"):
        assert http.get(path).status_code == 404


def test_a_cut_off_is_calibrated_and_used(http: httpx.Client, pictures: dict[str, bytes]) -> None:
    cut = http.post("/api/images/calibrate", json={}).json()
    assert cut["questions"] == 24
    assert 0 <= cut["precision"] <= 1
    text = prompt(scene(3, "held-out"), 3, split="held-out")
    found = http.post("/api/images/search", json={"text": text, "top_k": 24}).json()["pictures"]
    assert [hit["relevant"] for hit in found] == [hit["score"] >= cut["score"] for hit in found]
    refused = http.post("/api/images/calibrate", json={"questions": [{"text": "a", "relevant": ["upload:1.png"]}]})
    assert (refused.status_code, "at least 20" in refused.text) == (400, True)


@pytest.mark.parametrize(("sent", "status", "named"), [
    ({}, 400, "text, picture"), ({"text": "a", "image": "%%%"}, 400, "image"), ({"image": "aGVsbG8="}, 400, "picture"),
    ({"image": "data:image/png,abc"}, 400, "base64"), ({"image": "https://example.org/a.png"}, 400, "base64"),
    ({"text": "a", "weight": 2}, 422, "weight"), ({"text": "a", "collection": "docs"}, 404, "docs"),
    ({"text": "a", "what": 1}, 422, "what")])
def test_what_is_wrong_is_named(http: httpx.Client, pictures: dict[str, bytes], sent: dict[str, Any], status: int,
                                named: str) -> None:
    answer = http.post("/api/images/search", json=sent)
    assert answer.status_code == status, answer.text
    assert named in answer.text


def test_a_collection_of_vectors_is_none_of_pictures(http: httpx.Client) -> None:
    http.post("/api/collections", json={"name": "v", "dim": 3})
    answer = http.post("/api/images/search", json={"text": "a", "collection": "v"})
    assert (answer.status_code, "none of pictures" in answer.text) == (400, True)


def test_broken_files_and_forms_are_told(http: httpx.Client, pictures: dict[str, bytes]) -> None:
    done = uploaded(http, {"bad.png": b"no picture", "good.png": pictures["1.png"]}, collection="images")
    assert [problem["path"] for problem in done["report"]["problems"]] == ["upload:bad.png"]
    assert str(Path.home()) not in json.dumps(done)
    for fields in ({"captions": "[1]"}, {"captions": "{"}, {"captions": '{"x.png": "a"}'}, {"unknown": "1"}):
        refused = http.post("/api/images/ingest", files=[("files", ("a.png", b"x"))], data=fields)
        assert (refused.status_code, next(iter(fields)) in refused.text) == (400, True), refused.text


def test_keys_decide_who_sees_pictures(workspace: Workspace) -> None:
    keys = Keys(workspace.path)
    reader, _ = keys.create("reader", "read", collections=["other"])
    with serving(workspace, access=Access(keys)) as address, httpx.Client(base_url=address, timeout=30) as http:
        http.headers["authorization"] = f"Bearer {reader}"
        assert http.post("/api/images/search", json={"text": "a"}).status_code == 403
        assert http.get("/api/images/images/thumbnail?id=a").status_code == 403
        assert http.post("/api/images/ingest", files=[("files", ("a.png", b"x"))]).status_code == 403
