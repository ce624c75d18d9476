"""Queries take a short way through the server: however their bytes come, the answers are the same and in order."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from madang.serve.access import TRUST_S, Keys
from madang.serve.app import App, Known
from madang.serve.http import Reply
from madang.serve.run import serving
from madang.workspace import Workspace


@pytest.fixture
def connection(workspace: Workspace, address: str) -> Iterator[socket.socket]:
    """A connection to a server whose index `v` has five unit vectors."""
    workspace.create_collection("v", dim=5).upsert(
        [{"id": str(i), "values": row, "metadata": {"n": i}} for i, row in enumerate(np.eye(5, dtype=np.float32))])
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as made:
        yield made


def query(which: int, top_k: int = 1, path: str = "/i/v/query") -> bytes:
    body = json.dumps({"vector": [float(i == which) for i in range(5)], "topK": top_k}).encode()
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, dict[str, object]]]:
    """Status and content of the next so many."""
    found, data = [], b""
    while len(found) < count:
        head, separator, rest = data.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        if separator and len(rest) >= length:
            found.append((int(head.split()[1]), json.loads(rest[:length])))
            data = rest[length:]
            continue
        more = connection.recv(65536)
        assert more, "the server closed the connection"
        data += more
    assert not data
    return found


def first(answer: tuple[int, dict[str, object]]) -> str:
    status, content = answer
    assert status == 200, content
    return content["matches"][0]["id"]  # type: ignore[index, no-any-return]


def test_one_after_the_other(connection: socket.socket) -> None:
    for which in (3, 1, 4, 1):      # the first learns what kind of index it is, in a thread
        connection.sendall(query(which))
        assert first(answers(connection, 1)[0]) == str(which)


def test_several_at_once_are_answered_in_order(connection: socket.socket) -> None:
    connection.sendall(b"".join(query(which) for which in (0, 1, 2, 3, 4, 2)))
    assert [first(answer) for answer in answers(connection, 6)] == ["0", "1", "2", "3", "4", "2"]


def test_what_takes_long_goes_on_in_a_thread(connection: socket.socket) -> None:
    connection.sendall(query(0, top_k=5000) + query(1) + query(2, top_k=5000))
    assert [first(answer) for answer in answers(connection, 3)] == ["0", "1", "2"]


@pytest.mark.parametrize("piece", [1, 7, 60, 100])
def test_in_pieces(connection: socket.socket, piece: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = query(4) + query(2)
    for start in range(0, len(sent), piece):
        connection.send(sent[start:start + piece])
    assert [first(answer) for answer in answers(connection, 2)] == ["4", "2"]


def test_errors_between_answers(connection: socket.socket) -> None:
    connection.sendall(query(0) + query(0, path="/i/nope/query") + query(0, top_k=0) + query(3))
    found = answers(connection, 4)
    assert [status for status, _ in found] == [200, 404, 400, 200]
    assert (first(found[0]), first(found[3])) == ("0", "3")


def test_who_leaves_in_the_middle_harms_nobody(connection: socket.socket, address: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    for end in (20, 80, 100):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(query(1)[:end])
    connection.sendall(query(2))
    assert first(answers(connection, 1)[0]) == "2"


# --- heads that are known ---


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each attempt to answer by a known head gave an answer."""
    tried, original = [], App.at_once

    def at_once(self: App, known: Known, client: Any, body: bytes) -> tuple[bytes, Reply]:
        tried.append(False)
        answer = original(self, known, client, body)
        tried[-1] = True
        return answer

    monkeypatch.setattr(App, "at_once", at_once)
    return tried


def padded(size: int = 200, lines: tuple[str, ...] = (), version: str = "1.1", body: str | None = None, **asked: Any) -> bytes:
    """A query whose head does not depend on what it asks for."""
    text = json.dumps({"vector": [0, 1, 0, 0, 0], "topK": 1, **asked}) if body is None else body
    head = "".join(f"{line}\r\n" for line in (f"POST /i/v/query HTTP/{version}", "Host: 127.0.0.1", f"Content-Length: {size}", *lines))
    return f"{head}\r\n{text:<{size}}".encode()


def raw(connection: socket.socket, sent: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers and body of one answer."""
    connection.sendall(sent)
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines)
    while len(body) < int(headers[b"content-length"]):
        body += connection.recv(65536)
    return status, headers, body


def test_an_answer_by_a_known_head_is_the_same(connection: socket.socket, short: list[bool]) -> None:
    wants = [padded(), padded(topK=3, includeMetadata=True), padded(topK=2, includeValues=True), padded(namespace="none"),
             padded(filter={"n": {"$gte": 3}}), padded(id="2", vector=None), padded(body="{"), padded(topK=0), padded(vector=[1, 2]),
             padded(vector=[1, 2, 3, 4, "5"]), padded(size=1000, filter={"$and": [{"n": 1}] * 20})]
    usual = []
    for number, want in enumerate(wants):       # each with a head of its own, so that none is known
        usual.append(raw(connection, want.replace(b"\r\n\r\n", b"\r\nX-Own: %d\r\n\r\n" % number, 1)))
    assert not short
    ids = {headers.pop(b"x-request-id") for _, headers, _ in usual}
    for round_ in range(3):
        for want, (status, theirs, content) in zip(wants, usual, strict=True):
            told, headers, body = raw(connection, want)
            ids.add(headers.pop(b"x-request-id"))
            assert (told, {**headers, b"date": b""}, body) == (status, {**theirs, b"date": b""}, content), (round_, want)
    assert len(ids) == 4 * len(wants)
    assert short.count(True) == len(short) >= 3 * len(wants) - 3
    sent = [raw(connection, padded(lines=("X-Request-Id: mine",)))[1][b"x-request-id"] for _ in range(3)]
    assert sent == [b"mine"] * 3


def test_what_takes_long_by_a_known_head(connection: socket.socket, short: list[bool]) -> None:
    for top_k in (1, 1, 1, 5000, 5000, 1, 1, 2):
        connection.sendall(padded(topK=top_k))
        assert first(answers(connection, 1)[0]) == "1"
    assert short == [True, False, True, True]     # after the long one the head is learned anew


@pytest.mark.parametrize("seed", range(6))
def test_known_heads_in_any_pieces(connection: socket.socket, short: list[bool], seed: int) -> None:
    """Whatever the packets are cut like, answers are complete and in order."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(3):
        connection.sendall(padded())
        answers(connection, 1)
    rng = np.random.default_rng(seed)
    for _ in range(12):
        asked = rng.integers(0, 5, rng.integers(1, 6)).tolist()
        sent = b"".join(padded(vector=[float(place == which) for place in range(5)]) for which in asked)
        cuts = sorted(rng.integers(0, len(sent), rng.integers(0, 4)).tolist())
        for begin, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            connection.send(sent[begin:end])
            time.sleep(rng.choice([0, 0.002]))
        assert [first(answer) for answer in answers(connection, len(asked))] == [str(which) for which in asked]
    assert any(short)


def test_a_body_that_looks_like_a_known_head(connection: socket.socket, short: list[bool]) -> None:
    """Bytes count as a head only where a request begins."""
    for _ in range(3):
        connection.sendall(padded())
        answers(connection, 1)
    before, inside = len(short), padded()
    outer = f"POST /i/v/query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(inside)}\r\n\r\n".encode()
    connection.sendall(outer)
    time.sleep(0.05)
    connection.sendall(inside)
    assert [status for status, _ in answers(connection, 1)] == [400]
    assert len(short) == before
    connection.sendall(padded(vector=[0, 0, 0, 1, 0]))
    assert first(answers(connection, 1)[0]) == "3"


@pytest.mark.parametrize(("lines", "version"), [
    (("Connection: keep-alive",), "1.1"), (("Origin: http://127.0.0.1",), "1.1"), (("X-Forwarded-For: 1.2.3.4",), "1.1"),
    (("Expect: 100-continue",), "1.1"), (("Connection: keep-alive",), "1.0")])
def test_heads_that_are_not_remembered(connection: socket.socket, short: list[bool], lines: tuple[str, ...], version: str) -> None:
    for _ in range(4):
        with socket.create_connection(connection.getpeername(), timeout=30) as other:
            other.sendall(padded(lines=lines, version=version))
            data = b""
            while b'"matches"' not in data:
                more = other.recv(65536)
                assert more
                data += more
    assert not short


def test_an_index_that_is_dropped_and_made_anew(connection: socket.socket, workspace: Workspace, short: list[bool]) -> None:
    for _ in range(3):
        connection.sendall(padded())
        assert first(answers(connection, 1)[0]) == "1"
    workspace.drop_collection("v")
    connection.sendall(padded())
    assert [status for status, _ in answers(connection, 1)] == [404]
    workspace.create_collection("v", dim=5).upsert([{"id": "new", "values": [0, 1, 0, 0, 0]}])
    for _ in range(3):
        connection.sendall(padded())
        assert first(answers(connection, 1)[0]) == "new"
    assert short.count(True) >= 3


def test_keys_and_rates_count_by_known_heads(workspace: Workspace, short: list[bool]) -> None:
    collection = workspace.create_collection("v", dim=5)
    for namespace in ("mine", "ours"):
        collection.upsert([{"id": namespace, "values": [0, 1, 0, 0, 0]}], namespace=namespace)
    keys = Keys(workspace.path)
    token, _ = keys.create("a", "read", namespaces=["mine"])
    limited = replace(workspace.settings.serve, rate_per_s=0.001, rate_burst=9)
    with serving(workspace, settings=limited) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            lines = (f"Api-Key: {token}",)

            def asked(namespace: str) -> int:
                connection.sendall(padded(lines=lines, namespace=namespace))
                return answers(connection, 1)[0][0]

            assert [asked(namespace) for namespace in ("mine", "mine", "ours", "mine", "ours")] == [200, 200, 403, 200, 403]
            assert short.count(True) >= 3
            lines = ("Api-Key: nobody's",)
            assert [asked("mine") for _ in range(3)] == [401] * 3
            lines = (f"Api-Key: {token}",)
            assert [asked("mine") for _ in range(5)] == [200] * 4 + [429]
            status, headers, _ = raw(connection, padded(lines=lines, namespace="mine"))
            assert status.split()[1] == b"429"
            assert int(headers[b"retry-after"]) > 100
            assert short[-1]
            keys.revoke("a")
            time.sleep(TRUST_S)
            assert asked("mine") == 401


def test_what_takes_long_counts_once(workspace: Workspace, short: list[bool]) -> None:
    workspace.create_collection("v", dim=5).upsert([{"id": "a", "values": [0, 1, 0, 0, 0]}])
    with serving(workspace, settings=replace(workspace.settings.serve, rate_per_s=0.001, rate_burst=8)) as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            found = []
            for top_k in (1, 1, 1, 5000, 1, 5000, 1, 1, 1):
                connection.sendall(padded(topK=top_k))
                found += [status for status, _ in answers(connection, 1)]
    assert found == [200] * 8 + [429]
    assert False in short


def test_a_connection_outlives_the_idle_time_of_clients(connection: socket.socket, short: list[bool]) -> None:
    """httpx gives a connection up after 5 s without use: a server that does so at the same moment loses requests."""
    for _ in range(3):
        connection.sendall(padded())
        answers(connection, 1)
    time.sleep(6)
    connection.sendall(padded())
    assert first(answers(connection, 1)[0]) == "1"
    assert any(short)
