"""Pictures: made by a service, kept within bounds, served by us."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest

from madang.serve.pictures import Pictures
from tests.models.service_stub import Reply, answer
from tests.serve.openai.proxied import proxied

PNG = b"\x89PNG\r\n\x1a\nnot really"
DRAWN = Reply(json={"created": 1, "data": [{"b64_json": base64.b64encode(PNG).decode(), "revised_prompt": "A quiet yard."}]})


def test_a_picture_by_address_and_in_base64(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws") as (stub, http):
        stub.script("/v1/images/generations", DRAWN)
        said = http.post("/v1/images/generations", json={"model": "dall-e-3", "prompt": "a yard", "size": "512x512", "style": "natural"})
        item = said.json()["data"][0]
        assert item["revised_prompt"] == "A quiet yard."
        came = httpx.get(item["url"])
        assert (came.content, came.headers["content-type"]) == (PNG, "image/png")
        assert stub.sent("/v1/images/generations")[0].json == {
            "model": "painter", "prompt": "a yard", "n": 1, "size": "512x512", "style": "natural", "response_format": "b64_json"}
        coded = http.post("/v1/images/generations", json={"prompt": "a yard", "response_format": "b64_json"}).json()["data"][0]
        assert base64.b64decode(coded["b64_json"]) == PNG
        assert http.get("/v1/images/files/0123.png").status_code == 404
        assert http.get(f"/v1/images/files/{'0' * 32}.png").status_code == 404


def test_an_address_that_a_service_names_is_not_read(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws") as (stub, http):
        stub.script("/v1/images/generations", Reply(json={"data": [{"url": "http://127.0.0.1:1/x.png"}]}))
        assert http.post("/v1/images/generations", json={"prompt": "a yard"}).status_code == 502


@pytest.mark.parametrize("body", [{"prompt": ""}, {"prompt": None}, {"prompt": "a", "n": 11}, {"prompt": "a", "response_format": "gif"},
                                  {"prompt": "a", "stream": True}, {"prompt": "a", "model": "gpt-4o"}])
def test_what_is_wrong_is_refused(http: httpx.Client, body: dict[str, object]) -> None:
    assert http.post("/v1/images/generations", json=body).status_code == 400


def test_nobody_draws_here_and_how_that_changes(http: httpx.Client) -> None:
    refused = http.post("/v1/images/generations", json={"prompt": "a yard"})
    assert refused.status_code == 501
    assert "[models] draw" in refused.json()["error"]["message"]


def test_the_oldest_pictures_go(tmp_path: Path) -> None:
    kept = Pictures(tmp_path / "p", most_files=3, most_bytes=1_000)
    names = [kept.keep(bytes([number]) * 100, "image/jpeg") for number in range(5)]
    assert [kept.read(name) is not None for name in names] == [False, False, True, True, True]
    assert kept.read(names[-1]) == (b"\x04" * 100, "image/jpeg")
    big = kept.keep(b"x" * 5_000, "image/webp")      # larger than all that is kept: it is there all the same
    assert [kept.read(name) is not None for name in (*names, big)] == [False] * 5 + [True]
    for name in ("../p", names[0].upper(), "..", "x.png", f"{'0' * 32}.svg"):
        assert kept.read(name) is None


ASKED = {"model": "gpt-4o", "messages": [{"role": "user", "content": [
    {"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "URL", "detail": "low"}}]}]}


def _asked(url: str) -> bytes:
    return json.dumps(ASKED).replace("URL", url).encode()


def test_a_picture_by_address_is_fetched_for_the_service_where_the_rules_allow_it(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws", "[serve]\nallow_private_urls = true\n") as (stub, http):
        stub.chat(answer("A yard."))
        stub.script("/v1/a.png", Reply(pieces=[PNG], content_type="image/png"))
        stub.script("/v1/a.html", Reply(pieces=[b"<p>"], content_type="text/html"))
        assert http.post("/v1/chat/completions", content=_asked(f"{stub.url}/a.png")).status_code == 200
        part = stub.sent()[0].json["messages"][0]["content"][1]["image_url"]
        assert part == {"url": "data:image/png;base64," + base64.b64encode(PNG).decode(), "detail": "low"}
        refused = http.post("/v1/chat/completions", content=_asked(f"{stub.url}/a.html"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_image_url")


def test_this_machine_is_not_asked_for_pictures(tmp_path: Path) -> None:
    with proxied(tmp_path / "ws") as (stub, http):
        stub.chat(answer("A yard."))
        for url in (f"{stub.url}/a.png", "http://localhost:1/a.png", "http://[::1]/a.png", "http://169.254.169.254/latest"):
            refused = http.post("/v1/chat/completions", content=_asked(url))
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_image_url"), url
        assert not stub.requests
