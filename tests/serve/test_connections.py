"""Queries take a short way through the server: however their bytes come, the answers are the same and in order."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import numpy as np
import pytest

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
