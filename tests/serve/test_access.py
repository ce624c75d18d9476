"""Keys: how they are kept, what they allow, and that the server asks for them."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from madang.base.errors import Conflict, Corrupt, InvalidInput, NotFound
from madang.cli.main import entry
from madang.serve.access import TRUST_S, Access, Identity, Keys, NotAllowed, key_in
from madang.serve.run import serving
from madang.workspace import Workspace


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def two(workspace: Workspace) -> None:
    for name in ("a", "b"):
        workspace.create_collection(name, dim=2).upsert([{"id": "x", "values": [1, 0]}])


@pytest.fixture
def locked(workspace: Workspace, two: None) -> Iterator[str]:
    Keys(workspace.path).create("owner", "admin")
    with serving(workspace) as address:
        yield address


def ask(address: str, key: str, method: str, path: str, body: object = None) -> httpx.Response:
    return httpx.request(method, address + path, json=body, headers={"Api-Key": key} if key else {}, timeout=30)


# --- kept ---

def test_a_key_is_kept_as_its_digest_in_a_file_of_its_owner(keys: Keys, tmp_path: Path) -> None:
    token, made = keys.create("reader", "read", ["n2", "n1"], ["c"])
    file = tmp_path / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert token not in file.read_text()
    assert token.removeprefix("mdg_") not in file.read_text()
    assert keys.read() == {made.digest: made}
    assert (made.namespaces, made.collections, made.last_used_at) == (("n1", "n2"), ("c",), None)
    assert "digest" not in made.shown()
    assert len(token) >= 4 + 43      # 256 bits
    assert keys.create("other")[0] != token


def test_names_are_taken_once_and_bad_ones_refused(keys: Keys) -> None:
    keys.create("a")
    with pytest.raises(Conflict, match="called 'a' already"):
        keys.create("a")
    for name in ("", " a", "a/b", "a\n", "x" * 64):
        with pytest.raises(InvalidInput, match="key name"):
            keys.create(name)
    with pytest.raises(InvalidInput, match="Known: read, write, admin"):
        keys.create("b", "root")
    with pytest.raises(NotFound, match="There are: a"):
        keys.revoke("b")


def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=lambda n=n: Keys(tmp_path).create(f"k{n}")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in Keys(tmp_path).read().values()) == sorted(f"k{n}" for n in range(12))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json", "keys.lock"]


def test_a_change_that_fails_leaves_the_file_as_it_was(keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.create("a")
    before = (tmp_path / "keys.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        keys.create("b")
    assert (tmp_path / "keys.json").read_bytes() == before
    assert not list(tmp_path.glob(".keys*"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": [{}]}', '{"keys": [1]}'])
def test_a_damaged_file_opens_nothing(keys: Keys, tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(Corrupt, match="damaged"):
        Access(keys)


# --- known ---

def test_without_keys_whoever_reaches_the_server_may_do_everything(keys: Keys) -> None:
    access = Access(keys)
    assert not access.required
    assert access.identify("") == access.identify("anything") == Identity()


def test_changes_count_soon_and_the_last_revocation_opens_nothing(keys: Keys) -> None:
    """A key that was just made, at once."""
    access = Access(keys)
    token, _ = keys.create("a", "write")
    time.sleep(TRUST_S)
    later, _ = keys.create("b")
    assert access.identify(later).name == "b"
    assert access.identify(token) == Identity("write", None, "a")
    for other in ("", "x", token[:-1], token + "x", token.swapcase(), "\udc80"):
        with pytest.raises(NotAllowed) as refused:
            access.identify(other)
        assert not refused.value.known
        assert other not in str(refused.value) or len(other) < 2
    keys.revoke("a")
    keys.revoke("b")
    time.sleep(TRUST_S)
    with pytest.raises(NotAllowed):
        access.identify(token)
    assert access.required


def test_a_file_that_is_gone_opens_nothing_while_the_server_runs(keys: Keys, tmp_path: Path) -> None:
    token, _ = keys.create("a")
    access = Access(keys)
    (tmp_path / "keys.json").unlink()
    time.sleep(TRUST_S)
    with pytest.raises(NotAllowed):
        access.identify(token)
    assert access.required


def test_the_last_use_is_written_down(keys: Keys) -> None:
    token, _ = keys.create("a")
    keys.create("b")
    access = Access(keys, now=lambda: "2026-01-02T03:04:05+00:00")
    access.identify(token)
    access.save_use()
    assert {key.name: key.last_used_at for key in keys.read().values()} == {"a": "2026-01-02T03:04:05+00:00", "b": None}
    assert access.identify(token).name == "a"
    keys.revoke("a")
    access.save_use()
    assert [key.name for key in keys.read().values()] == ["b"]


def test_a_key_is_found_where_each_client_puts_it() -> None:
    assert key_in({b"api-key": b"k"}) == key_in({b"authorization": b"Bearer k"}) == key_in(
        {b"authorization": b"bearer  k"}) == key_in({b"api-key": b"k", b"authorization": b"Bearer x"}) == "k"
    assert key_in({}) == key_in({b"authorization": b"Basic k"}) == ""


def test_what_an_identity_allows() -> None:
    reader = Identity("read", frozenset({"n"}), "r", frozenset({"c"}))
    reader.require("read", "n", "c")
    for scope, namespace, collection in (("write", "n", "c"), ("read", None, "c"), ("read", "", "c"), ("read", "n", None),
                                         ("read", "n", "d")):
        with pytest.raises(NotAllowed) as refused:
            reader.require(scope, namespace, collection)  # type: ignore[arg-type]
        assert refused.value.known
    assert reader.at("c") == Identity("read", frozenset({"n"}), "r")
    with pytest.raises(NotAllowed):
        reader.at("d")
    Identity().require("admin")


# --- asked for ---

def test_every_route_but_health_needs_a_key(locked: str) -> None:
    document = ask(locked, "", "GET", "/api/openapi.json")
    assert document.status_code == 401
    assert document.headers["www-authenticate"] == "Bearer"
    paths = [("GET", path) for path in ("/ready", "/metrics", "/api/docs", "/api/openapi.json", "/nowhere", "/indexes",
                                        "/api/collections", "/api/collections/a", "/api/ingest/x")]
    paths += [("POST", path) for path in ("/i/a/query", "/api/ingest", "/api/search", "/api/ask", "/api/collections",
                                          "/api/collections/a/records/upsert", "/api/collections/a/records/query")]
    for method, path in paths:
        for key in ("", "mdg_wrong"):
            refused = ask(locked, key, method, path, {} if method == "POST" else None)
            assert refused.status_code == 401, path
            assert "error" in refused.json()
    assert ask(locked, "", "GET", "/health").status_code == 200


def test_either_header_is_taken(workspace: Workspace, locked: str) -> None:
    token, _ = Keys(workspace.path).create("r", "read")       # while it runs
    for headers in ({"Api-Key": token}, {"Authorization": f"Bearer {token}"}):
        assert httpx.get(f"{locked}/api/collections", headers=headers).status_code == 200
        assert httpx.post(f"{locked}/i/a/query", json={"vector": [1, 0], "topK": 1},
                          headers={"Api-Key": token}).status_code == 200


def test_scopes_are_kept_to(workspace: Workspace, locked: str) -> None:
    tokens = {scope: Keys(workspace.path).create(scope, scope)[0] for scope in ("read", "write", "admin")}
    record = {"records": [{"id": "y", "values": [0, 1]}]}
    attempts: list[tuple[str, str, str, object]] = [
        ("read", "POST", "/api/collections/a/records/query", {"vector": [1, 0]}),
        ("read", "POST", "/api/collections/a/audit", {}),
        ("write", "POST", "/api/collections/a/records/upsert", record),
        ("write", "POST", "/api/collections/a/records/delete", {"ids": ["y"]}),
        ("admin", "POST", "/api/collections/a/snapshots", {"name": "s"}),
        ("admin", "POST", "/api/collections", {"name": "c", "dim": 2}),
        ("admin", "DELETE", "/api/collections/c", None)]
    order = ("read", "write", "admin")
    for needed, method, path, body in attempts:
        for scope in order[:order.index(needed)]:
            refused = ask(locked, tokens[scope], method, path, body)
            assert refused.status_code == 403, path
            assert refused.json()["error"]["code"] == "not_allowed"
        assert ask(locked, tokens[needed], method, path, body).status_code < 300, path


def test_collections_and_namespaces_are_kept_to(workspace: Workspace, locked: str) -> None:
    keys = Keys(workspace.path)
    one, _ = keys.create("one", "admin", collections=["a"])
    spaced, _ = keys.create("spaced", "write", namespaces=["n"])
    assert [found["name"] for found in ask(locked, one, "GET", "/api/collections").json()["collections"]] == ["a"]
    assert ask(locked, one, "GET", "/api/collections/a/stats").status_code == 200
    for path in ("/api/collections/b", "/api/collections/b/stats", "/api/collections/none", "/metrics"):
        assert ask(locked, one, "GET", path).status_code == 403, path
    query = {"vector": [1, 0], "topK": 1}
    assert ask(locked, one, "POST", "/i/a/query", query).status_code == 200
    assert ask(locked, one, "POST", "/i/b/query", query).status_code == 403
    upsert = {"records": [{"id": "y", "values": [0, 1]}]}
    assert ask(locked, spaced, "POST", "/api/collections/a/records/upsert", {**upsert, "namespace": "n"}).status_code == 200
    assert ask(locked, spaced, "POST", "/api/collections/a/records/upsert", upsert).status_code == 403
    assert ask(locked, spaced, "POST", "/i/a/query", {**query, "namespace": "n"}).status_code == 200
    assert ask(locked, spaced, "POST", "/i/a/query", query).status_code == 403


def test_other_machines_need_a_key(workspace: Workspace) -> None:
    with pytest.raises(InvalidInput, match="madang key create"), serving(workspace, "0.0.0.0"):
        pass
    Keys(workspace.path).create("a")
    with serving(workspace, "0.0.0.0") as address:
        port = address.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        assert httpx.get(f"http://127.0.0.1:{port}/api/collections").status_code == 401


# --- the command ---

def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = entry(["key", *arguments, "-w", str(tmp_path / "ws")])
        return code, capsys.readouterr().out

    code, token = run("create", "app", "--scope", "write", "--collection", "docs")
    assert code == 0
    assert token.startswith("mdg_")
    assert json.loads(run("list", "--json")[1])["keys"] == [
        {**json.loads(run("list", "--json")[1])["keys"][0], "name": "app", "scope": "write", "collections": ["docs"],
         "namespaces": None, "last_used_at": None}]
    listed = run("list")[1]
    assert "app" in listed
    assert token.strip() not in listed
    assert run("create", "app")[0] == 1
    assert run("revoke", "nobody")[0] == 1
    assert run("revoke", "app")[0] == 0
    assert run("list")[1] == "no keys\n"
    made = json.loads(run("create", "b", "--namespace", "x", "--json")[1])
    assert Access(Keys(tmp_path / "ws")).identify(made["key"]) == Identity("read", frozenset({"x"}), "b")
