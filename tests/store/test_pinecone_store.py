"""Pinecone's protocol, against a server of this file that keeps to what was recorded of it and to its limits."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError, Unsupported
from madang.base.records import SparseVector
from madang.store import Database, filters
from madang.store.backends import pinecone_filters, pinecone_http
from madang.store.backends.pinecone import Pinecone
from madang.store.backends.pinecone_http import Service
from madang.store.copying import copy
from madang.testing.filter_table import ROWS
from madang.testing.store_cases import Make, record, scores
from madang.testing.store_suite import StoreSuite

_numbers = itertools.count()
THEIRS = {"cosine": "cosine", "dotproduct": "dot", "euclidean": "euclidean"}


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Refusal(400, message)


def as_double(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Index:
    """One index: what the service keeps, as it keeps it."""

    def __init__(self, name: str, dim: int, metric: str, host: str) -> None:
        self.name, self.dim, self.metric, self.host = name, dim, metric, host
        self.spaces: dict[str, dict[str, dict[str, Any]]] = {}
        self.polls = 2                    # descriptions until it is ready

    def description(self) -> dict[str, Any]:
        self.polls -= 1
        return {"name": self.name, "host": self.host, "status": {"ready": self.polls < 0, "state": "Ready"},
                "dimension": self.dim, "metric": self.metric, "vector_type": "dense",
                "spec": {"serverless": {"cloud": "aws", "region": "us-east-1"}}}

    def space(self, name: str) -> dict[str, dict[str, Any]]:
        require(name.isascii(), "namespace must be ASCII")
        return self.spaces.get("" if name == "__default__" else name, {})

    def kept(self, vector: dict[str, Any]) -> dict[str, Any]:
        require(vector["id"].isascii() and 0 < len(vector["id"]) <= 512, "Vector ID must be ASCII of 1 to 512")
        require(len(vector["values"]) == self.dim, f"Vector dimension {len(vector['values'])} does not match")
        require(len(json.dumps(vector.get("metadata", {}), ensure_ascii=False, separators=(",", ":")).encode())
                <= 40 * 1024, "Metadata size exceeds the limit of 40960 bytes")
        found = {"id": vector["id"], "values": np.array(vector["values"], dtype=np.float32).tolist(),
                 "metadata": {key: as_double(value) for key, value in vector.get("metadata", {}).items()}}
        if "sparseValues" in vector:
            require(self.metric == "dotproduct", "Index does not support sparse values")
            require(len(vector["sparseValues"]["indices"]) > 0, "Sparse vector must contain at least one value")
            found["sparseValues"] = vector["sparseValues"]
        return found

    def upsert(self, body: dict[str, Any]) -> dict[str, Any]:
        require(0 < len(body["vectors"]) <= 1000, "1 to 1000 vectors")
        kept = {vector["id"]: self.kept(vector) for vector in body["vectors"]}
        require(body.get("namespace", "").isascii(), "namespace must be ASCII")
        self.spaces.setdefault(body.get("namespace", ""), {}).update(kept)
        return {"upsertedCount": len(kept)}

    def matching(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        found = list(self.space(body.get("namespace", "")).values())
        if "filter" not in body:
            return found
        check_filter(body["filter"])
        tree = filters.parse(body["filter"])
        return [vector for vector in found if tree.matches(vector["metadata"])]

    def query(self, body: dict[str, Any]) -> dict[str, Any]:
        require(1 <= body["topK"] <= 10_000 and len(body["vector"]) == self.dim, "topK or dimension")
        found = self.matching(body)
        metric = THEIRS[self.metric]
        values = [vector["values"] for vector in found]
        ranks = scores(metric, body["vector"], np.reshape(values, (len(values), self.dim)))
        order = np.argsort(-ranks, kind="stable")[:body["topK"]]
        sign = -1 if metric == "euclidean" else 1
        matches = [{"id": found[n]["id"], "score": sign * float(ranks[n]),
                    "values": found[n]["values"] if body.get("includeValues") else [],
                    **({"metadata": found[n]["metadata"]} if body.get("includeMetadata") else {})} for n in order]
        return {"matches": matches, "namespace": body.get("namespace", ""), "usage": {"readUnits": 1}}

    def update(self, body: dict[str, Any]) -> dict[str, Any]:
        vector = self.space(body.get("namespace", ""))[body["id"]]
        changed = {**vector, "values": body.get("values", vector["values"]),
                   "metadata": {**vector["metadata"], **body.get("setMetadata", {})}}
        if "sparseValues" in body:
            changed["sparseValues"] = body["sparseValues"]
        vector.update(self.kept(changed))
        return {}

    def delete(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("namespace", "") not in self.spaces:
            raise Refusal(404, "Namespace not found")
        space = self.space(body.get("namespace", ""))
        require(len(body.get("ids", [])) <= 1000, "at most 1000 ids")
        gone = body["ids"] if "ids" in body else [vector["id"] for vector in self.matching(body)]
        for identity in gone:
            space.pop(identity, None)
        if not space:
            del self.spaces[body.get("namespace", "")]
        return {}

    def fetch(self, query: dict[str, list[str]]) -> dict[str, Any]:
        space = self.space(query.get("namespace", [""])[0])
        require(len(query["ids"]) <= 100, "at most 100 ids")
        return {"vectors": {i: space[i] for i in query["ids"] if i in space}, "namespace": "", "usage": {}}

    def list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        limit = int(query.get("limit", ["100"])[0])
        require(1 <= limit <= 100, "limit from 1 to 100")
        after = bytes.fromhex(query["paginationToken"][0]).decode() if "paginationToken" in query else ""
        ids = sorted(i for i in self.space(query.get("namespace", [""])[0])
                     if i.startswith(query.get("prefix", [""])[0]) and i > after)
        answer: dict[str, Any] = {"vectors": [{"id": i} for i in ids[:limit]], "usage": {"readUnits": 1}}
        if len(ids) > limit:
            answer["pagination"] = {"next": ids[limit - 1].encode().hex()}
        return answer

    def stats(self) -> dict[str, Any]:
        counts = {name or "__default__": {"vectorCount": len(space)} for name, space in self.spaces.items()}
        return {"namespaces": counts, "dimension": self.dim, "indexFullness": 0.0, "metric": self.metric,
                "totalVectorCount": sum(map(len, self.spaces.values())), "vectorType": "dense"}


def check_filter(node: Any) -> None:
    """Only what is documented: no empty lists, $in of strings and numbers, numbers that are doubles."""
    require(isinstance(node, dict) and bool(node), "empty filter")
    for key, value in node.items():
        if key in ("$and", "$or"):
            require(bool(value), "empty list")
            for part in value:
                check_filter(part)
            continue
        for name, operand in value.items():
            if name in ("$in", "$nin"):
                require(bool(operand) and not any(isinstance(item, bool) for item in operand), f"{name} of {operand}")
            for item in operand if isinstance(operand, list) else [operand]:
                require(not isinstance(item, int) or int(float(item)) == item, f"{item} is not a double")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1                         # one packet an answer
    disable_nagle_algorithm = True
    server: Stub

    def log_message(self, *args: Any) -> None:
        pass

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        if self.server.failures:
            status, headers, text = self.server.failures.pop(0)
            return self.answer(status, text.encode(), headers)
        try:
            if not self.headers.get("Api-Key") or self.headers.get("X-Pinecone-Api-Version") != "2025-10":
                raise Refusal(401, "Invalid API Key")
            require(len(body) <= 2 * 1024 * 1024, "message too large")
            status, found = self.server.route(self.command, parts.path, parse_qs(parts.query), body)
            self.answer(status, b"" if found is None else json.dumps(found).encode(), {})
        except Refusal as error:
            told = {"error": {"code": "X", "message": str(error)}, "status": error.status}
            self.answer(error.status, json.dumps(told).encode(), {})
        return None

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = handle_one  # noqa: N815


class Stub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.indexes: dict[str, Index] = {}
        self.failures: list[tuple[int, dict[str, str], str]] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def route(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> tuple[int, Any]:
        with self.lock:
            if path.startswith("/i/"):
                _, _, name, rest = path.split("/", 3)
                return 200, self.data(self.index(name), f"{method} /{rest}", query, body)
            if (method, path) == ("POST", "/indexes"):
                asked = json.loads(body)
                if asked["name"] in self.indexes:
                    raise Refusal(409, "Resource already exists")
                require(asked["spec"]["serverless"] == {"cloud": "aws", "region": "us-east-1"}, "spec")
                self.indexes[asked["name"]] = Index(asked["name"], asked["dimension"], asked["metric"],
                                                    f"{self.url}/i/{asked['name']}")
                return 201, self.indexes[asked["name"]].description()
            name = unquote(path.removeprefix("/indexes/"))
            if method == "DELETE":
                self.index(name)
                del self.indexes[name]
                return 202, None
            return 200, self.index(name).description()

    def index(self, name: str) -> Index:
        if name not in self.indexes:
            raise Refusal(404, f"Resource {name} not found")
        return self.indexes[name]

    def data(self, index: Index, what: str, query: dict[str, list[str]], body: bytes) -> Any:
        match what:
            case "GET /vectors/fetch":
                return index.fetch(query)
            case "GET /vectors/list":
                return index.list(query)
            case "POST /describe_index_stats":
                return index.stats()
        calls = {"POST /vectors/upsert": index.upsert, "POST /query": index.query,
                 "POST /vectors/update": index.update, "POST /vectors/delete": index.delete}
        return calls[what](json.loads(body))


@pytest.fixture(scope="module")
def running() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def stub(running: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The service, without indexes; nobody waits."""
    running.indexes, running.failures, running.seen = {}, [], []
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", running.url)
    monkeypatch.setenv("PINECONE_API_KEY", "secret-key")
    monkeypatch.setattr(pinecone_http.time, "sleep", lambda seconds: None)
    return running


@pytest.fixture
def make(stub: Stub) -> Iterator[Make]:
    opened: list[Pinecone] = []

    def new(dim: int, metric: str = "cosine") -> Pinecone:
        opened.append(Pinecone.create(f"pinecone://index{next(_numbers)}", dim, metric))
        return opened[-1]

    yield new
    for collection in opened:
        collection.close()


class TestPinecone(StoreSuite):
    capabilities = Pinecone.capabilities
    again: ClassVar[list[Pinecone]] = []

    @pytest.fixture
    def make(self, make: Make) -> Iterator[Make]:
        yield make
        for collection in self.again:
            collection.close()
        self.again.clear()

    def reopen(self, store: Any) -> Any:
        self.again.append(Pinecone.open(f"pinecone://{store.name}"))
        return self.again[-1]


def test_filters_sent_mean_what_was_asked() -> None:
    """The filter sent, evaluated over doubles, gives every verdict of the table whose metadata can be stored."""
    judged = 0
    for row in ROWS:
        if not all(pinecone_filters.is_double(value) for value in row.metadata.values()):
            continue
        sent = pinecone_filters.encode(filters.parse(row.filter))
        stored = {key: as_double(value) for key, value in row.metadata.items()}
        if isinstance(sent, bool):
            verdict = sent
        else:
            check_filter(sent)
            verdict = filters.parse(sent).matches(stored)
        assert verdict is row.verdict, row.name
        judged += 1
    assert judged > 950


def test_bounds_between_two_doubles() -> None:
    stored = [float(2**53 + n) for n in range(-4, 8, 2)]
    for operand in range(2**53 - 3, 2**53 + 8):
        for name in ("$gt", "$gte", "$lt", "$lte", "$eq", "$ne"):
            asked = filters.parse({"n": {name: operand}})
            sent = pinecone_filters.encode(asked)
            for value in stored:
                exact = asked.matches({"n": int(value)})
                assert (sent if isinstance(sent, bool) else filters.parse(sent).matches({"n": value})) is exact


def test_our_own_fields_are_out_of_sight(make: Make) -> None:
    store = make(3)
    store.upsert([record("a", metadata={"n": 1}, document="words", context="title")])
    read = store.fetch(["a"])["a"]
    assert read.metadata == {"n": 1}
    for field in ("madang:document", "madang:whole", "madang:x"):
        assert store.query(vector=[1, 0, 0], filter={field: {"$exists": True}}).matches == []
        assert len(store.query(vector=[1, 0, 0], filter={field: {"$exists": False}}).matches) == 1
        assert len(store.query(vector=[1, 0, 0], filter={field: {"$ne": "words"}}).matches) == 1
        with pytest.raises(Unsupported, match="madang:"):
            store.upsert([record("b", metadata={field: "x"})])
    assert store.list_ids().ids == ["a"]


def test_types_of_numbers_survive_an_update(make: Make) -> None:
    store = make(3)
    store.upsert([record("a", metadata={"i": 1, "f": 1.0, "s": "x"})])
    store.update("a", set_metadata={"i": 2.0, "f": 3, "new": 2**60})
    assert repr(store.fetch(["a"])["a"].metadata) == repr({"i": 2.0, "f": 3, "s": "x", "new": 2**60})


def test_limits_are_told_before_anything_is_sent(make: Make, stub: Stub) -> None:
    store = make(3, "cosine")
    stub.seen.clear()
    for bad, words in (({"document": "가" * 14_000}, "40,960"), ({"sparse": SparseVector([1], [1.0])}, "metric"),
                       ({"metadata": {"n": 2**53 + 1}}, "double")):
        with pytest.raises(Unsupported, match=words):
            store.upsert([record("a"), record("b", **bad)])
    with pytest.raises(Unsupported, match="namespace"):
        store.upsert([record("a")], namespace="마" * 512)
    assert stub.seen == []
    with pytest.raises(Unsupported, match="empty sparse"):
        make(3, "dot").upsert([record("a", sparse=SparseVector([], []))])


def test_upserts_are_cut_by_count_and_by_bytes(make: Make, stub: Stub) -> None:
    store = make(2_000, "euclidean")
    values = np.random.default_rng(1).normal(size=(150, 2_000))
    stub.seen.clear()
    assert store.upsert([record(f"r{n}", row) for n, row in enumerate(values)]) == 150
    sizes = [len(body) for _, path, _, body in stub.seen]
    assert len(sizes) > 2
    assert all(1_000_000 < size <= 2_000_000 for size in sizes[:-1])
    assert len(store.fetch([f"r{n}" for n in range(150)])) == 150


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit"), (500, "server"), (503, "server"), (408, "timeout")])
def test_a_busy_service_is_asked_again(make: Make, stub: Stub, monkeypatch: pytest.MonkeyPatch, status: int,
                                       kind: str) -> None:
    store = make(3)
    waits: list[float] = []
    monkeypatch.setattr(store._service, "_sleep", waits.append)
    stub.failures = [(status, {"Retry-After": "7"}, ""), (status, {}, "<html>"), (status, {"Retry-After": "soon"}, "")]
    assert store.upsert([record("a")]) == 1
    assert waits[0] == 7.0
    assert 0.5 <= waits[1] <= 1.0 <= waits[2] <= 2.0
    stub.failures = [(status, {"Retry-After": "1e9"}, json.dumps({"message": "slow down"}))] * 5
    with pytest.raises(ServiceError, match="slow down") as caught:
        store.fetch(["a"])
    assert (caught.value.kind, caught.value.status, caught.value.retryable) == (kind, status, True)
    assert stub.failures == []
    assert max(waits) <= 30.0


@pytest.mark.parametrize(("status", "error"), [(400, InvalidInput), (401, ServiceError), (403, ServiceError),
                                              (404, NotFound), (409, Conflict), (418, ServiceError)])
def test_a_refusal_is_final(make: Make, stub: Stub, status: int, error: type[Exception]) -> None:
    store = make(3)
    stub.seen.clear()
    stub.failures = [(status, {}, json.dumps({"error": {"code": "X", "message": "no such\nthing"}, "status": status}))]
    with pytest.raises(error, match="no such thing") as caught:
        store.fetch(["a"])
    assert len(stub.seen) == 1
    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "<html>", "[]", '{"matches": 3}', '{"matches": [{"id": 3}]}',
                                  '{"matches": [{"id": "a", "score": "x"}]}', '{"matches": [{"id": "a", "values": [null]}]}'])
def test_another_dialect_is_an_error(make: Make, stub: Stub, text: str) -> None:
    store = make(3)
    stub.failures = [(200, {}, text)]
    with pytest.raises(ServiceError) as caught:
        store.query(vector=[1, 0, 0])
    assert caught.value.kind == "protocol"


def test_an_index_by_its_host(make: Make, stub: Stub) -> None:
    store = make(3, "dot")
    store.upsert([record("a")], namespace="마당")
    again = Pinecone.open(f"pinecone://{stub.url.removeprefix('http://')}/i/{store.name}")
    assert (again.name, again.dim, again.metric) == (store.name, 3, "dot")
    assert again.stats().namespaces == {"마당": 1}
    with pytest.raises(Unsupported, match="by its host"):
        again.drop()
    again.close()


def test_what_is_not_there(make: Make, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="nothing"):
        Pinecone.open("pinecone://nothing")
    store = make(3)
    with pytest.raises(Conflict, match="exists"):
        Pinecone.create(f"pinecone://{store.name}", 3)
    for wrong in ("pinecone://", "pinecone:docs", "http://docs"):
        with pytest.raises(InvalidInput):
            Pinecone.open(wrong)
    with pytest.raises(InvalidInput, match="name"):
        Pinecone.create("pinecone://127.0.0.1:1/i/x", 3)
    assert store.delete(delete_all=True, namespace="nowhere") == 0
    del stub.indexes[store.name]
    with pytest.raises(NotFound):
        store.delete(ids=["a"])
    monkeypatch.setattr(pinecone_http, "_LOCAL", ())
    monkeypatch.delenv("PINECONE_API_KEY")
    with pytest.raises(ServiceError, match="PINECONE_API_KEY") as caught:
        Pinecone.open("pinecone://docs")
    assert caught.value.kind == "auth"


def test_a_service_out_of_reach(stub: Stub) -> None:
    waits: list[float] = []
    service = Service("127.0.0.1:1", "key", sleep=waits.append)
    with pytest.raises(ServiceError, match="cannot be reached") as caught:
        service.get("/indexes")
    assert (caught.value.kind, caught.value.retryable, len(waits)) == ("unreachable", True, 4)
    service.close()


@pytest.mark.parametrize(("address", "base"), [
    ("docs-abc.svc.pinecone.io", "https://docs-abc.svc.pinecone.io"), ("127.0.0.1:7860/i/docs", "http://127.0.0.1:7860/i/docs"),
    ("localhost:1/", "http://localhost:1"), ("http://10.0.0.1:5/i/x", "http://10.0.0.1:5/i/x"),
    ("https://localhost:1", "https://localhost:1"), ("[::1]:5", "http://[::1]:5"), ("localhost.evil.io", "https://localhost.evil.io")])
def test_addresses(address: str, base: str) -> None:
    """A key goes unencrypted to this machine only, unless the address says so."""
    service = Service(address, "key")
    assert service.address == base
    service.close()


def test_a_collection_moves_here(make: Make, tmp_path: Path) -> None:
    with contextlib.closing(Database(tmp_path)) as database:
        ours, back = database.create("ours", 3), database.create("back", 3)
        ours.upsert([record(f"r{n}", metadata={"n": n, "f": n / 3}, document="둘") for n in range(30)], namespace="마당")
        away = make(3)
        assert copy(ours, away, batch=7).verified == 30
        away.update("r3", set_metadata={"n": 4}, namespace="마당")
        assert copy(ours, away).copied == 1
        assert copy(away, back).copied == 30
        ours.upsert([record("마당"), record("big", metadata={"n": 2**53 + 1}), record("zero", [0, 0, 0]),
                     record("s", sparse=SparseVector([1], [1.0])), record("long", document="가" * 20_000)])
        with pytest.raises(Unsupported, match="3 records, 1 document, 1 sparse vector would"):
            copy(ours, away)
        done = copy(ours, away, lossy=True)
        assert (done.copied, done.skipped, done.verified) == (2, 30, 32)
