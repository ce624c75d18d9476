"""Pinecone over its REST protocol: an index is a collection. Any server that speaks the protocol will do.

`pinecone://NAME` asks the control plane (PINECONE_CONTROLLER_HOST, else api.pinecone.io) where the index lives;
`pinecone://HOST/...` with a dot or a port goes there straight. The key is PINECONE_API_KEY. New indexes are serverless,
in `?cloud=aws&region=us-east-1` unless the URL says otherwise.

What the service does not keep is kept in metadata of names that begin with "madang:" — `document`, `context`, and
which numbers are whole, since all come back as doubles — within its 40 KB a record. Ids are ASCII; a namespace that is
not, or is called as the default one, is written in percent signs.

Sources: https://docs.pinecone.io/reference/api/database-limits (limits) and
https://docs.pinecone.io/guides/index-data/check-data-freshness (a write is seen a little later, not at once).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import numpy as np

from madang.base.errors import Conflict, InvalidInput, NotFound, ServiceError
from madang.base.records import Match, Metadata, Record, SparseVector, Vector
from madang.store import validate
from madang.store.backends.capabilities import Capabilities
from madang.store.backends.engine import EngineCollection
from madang.store.backends.pinecone_filters import RESERVED, encode, is_double
from madang.store.backends.pinecone_http import Service
from madang.store.filters import Tree
from madang.store.protocol import IdPage
from madang.store.updating import Change
from madang.wire import pinecone as wire

CONTROLLER = "https://api.pinecone.io"
_DOCUMENT, _CONTEXT, _WHOLE = f"{RESERVED}document", f"{RESERVED}context", f"{RESERVED}whole"
_URL_BYTES = 4_000               # of the ids in one address
_READY_S = 300.0                 # how long a new index may take


class Pinecone(EngineCollection):
    """A collection in a Pinecone index. Safe to use from several threads."""

    engine: ClassVar[str] = "pinecone"
    capabilities: ClassVar[Capabilities] = Capabilities(
        filters_refused={"exact": "numbers are doubles: whole ones that no double is are refused when written"},
        sparse=True, delete_counts=False, unicode_ids=False, zero_vectors=False, read_your_writes=False)

    def __init__(self, service: Service, name: str, dim: int, metric: str, controller: Service | None = None) -> None:
        super().__init__(name, dim, metric)
        self._service, self._controller = service, controller

    @classmethod
    def create(cls, url: str, dim: int, metric: str = "cosine") -> Self:
        """Make a serverless index and wait until it is ready. Raises `Conflict` if it exists, `ServiceError`."""
        cls.check_new(dim, metric)
        name, options = _named(url)
        if name is None:
            raise InvalidInput(f"{url!r:.80} names a host; a new index needs a name.", remedy="For example pinecone://docs.")
        controller = _controller(options)
        try:
            controller.post("/indexes", wire.to_bytes(wire.encode_index(
                name, dim, metric, options.get("cloud", "aws"), options.get("region", "us-east-1"))))
            deadline = time.monotonic() + _READY_S
            while not controller.decoded(wire.decode_index, controller.get(f"/indexes/{name}")).ready:
                if time.monotonic() > deadline:
                    raise ServiceError(f"index {name!r} is not ready after {_READY_S:.0f} s.", kind="timeout",
                                       retryable=True, remedy="Open it later.")
                time.sleep(1.0)
        finally:
            controller.close()
        return cls.open(url)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the index that the URL names. Raises `NotFound`, `ServiceError`."""
        name, options = _named(url)
        if name is None:
            parts = urlsplit(url)
            address, controller = f"{parts.netloc}{parts.path}".rstrip("/"), None
            name = address.rpartition("/")[2] if "/" in address else address.partition(".")[0]
        else:
            controller = _controller(options)
            try:
                address = controller.decoded(wire.decode_index, controller.get(f"/indexes/{name}")).host
            except BaseException:
                controller.close()
                raise
        service = Service(address, _key(address))
        try:
            stats = service.decoded(wire.decode_stats, service.post("/describe_index_stats", b"{}"))
            if not stats.dim or not stats.metric:
                raise Conflict(f"index {name!r} does not tell the dimension and the metric of a dense vector.",
                               remedy="Use an index of dense vectors.")
        except BaseException:
            service.close()
            if controller is not None:
                controller.close()
            raise
        return cls(service, name, stats.dim, stats.metric, controller)

    # Writing

    def check_record(self, record: Record) -> None:
        """Refuses what the service would change or cannot hold."""
        super().check_record(record)
        where = f"record {record.id!r:.60}"
        for field, value in record.metadata.items():
            if field.startswith(RESERVED):
                raise self._cannot(f"{where}: metadata {field!r:.80}", f"Names that begin with {RESERVED!r} are taken.")
            if not is_double(value):
                raise self._cannot(f"{where}: metadata {field!r:.80}: a whole number that no double is, {value},",
                                   "Store it as a string.")
        if record.sparse is not None and self.metric != "dot":
            raise self._cannot(f"{where}: sparse in an index of metric {self.metric!r}", "Use metric dot.")
        if record.sparse is not None and not record.sparse.indices:
            raise self._cannot(f"{where}: an empty sparse vector", "Leave it out.")
        size = len(wire.to_bytes(_encoded(record)))
        if size > wire.METADATA_BYTES:
            raise self._cannot(f"{where}: {size:,} bytes of metadata and document, above {wire.METADATA_BYTES:,},",
                               "Cut documents into smaller chunks, or keep the text elsewhere.")

    def _put(self, records: list[Record], namespace: str) -> None:
        for body in wire.encode_upserts([_vector(record) for record in records], self._theirs(namespace)):
            self._service.post("/vectors/upsert", body)

    def _update(self, wanted: Change, namespace: str) -> int:
        """What is not named stays at the service."""
        record = self._changed(wanted, self._get([wanted.id or ""], namespace), namespace)
        changed = None
        if wanted.values is None and wanted.sparse is None and not wanted.metadata:
            return 1
        if wanted.metadata:
            changed = {_WHOLE: _whole(record.metadata), **{field: record.metadata[field] for field in wanted.metadata}}
        sparse = None if wanted.sparse is None else (list(wanted.sparse.indices), list(wanted.sparse.values))
        self._service.post("/vectors/update", wire.to_bytes(wire.encode_update(
            record.id, self._theirs(namespace), None if wanted.values is None else _floats(record.values), changed,
            sparse)))
        return 1

    def _delete_ids(self, ids: list[str], namespace: str) -> int:
        known = [identity for identity in ids if identity.isascii()]
        for start in range(0, len(known), wire.DELETE_IDS):
            self._delete(wire.encode_delete(self._theirs(namespace), known[start:start + wire.DELETE_IDS]))
        return len(known)

    def _delete_matching(self, tree: Tree | None, namespace: str) -> int:
        where = True if tree is None else encode(tree)
        if where is not False:
            self._delete(wire.encode_delete(self._theirs(namespace), where=None if where is True else where))
        return 0

    def _delete(self, body: Mapping[str, Any]) -> None:
        try:
            self._service.post("/vectors/delete", wire.to_bytes(body))
        except NotFound:         # the namespace does not exist, so nothing is there to delete
            self._counts()       # unless the index is gone, which raises

    def drop(self) -> None:
        """Delete the index. Only one opened by its name can be."""
        if self._controller is None:
            raise self._cannot("dropping an index opened by its host", "Open it by its name.")
        self._controller.request("DELETE", f"/indexes/{self.name}")

    # Reading

    def _get(self, ids: list[str], namespace: str) -> dict[str, Record]:
        found: dict[str, Record] = {}
        batch: list[str] = []
        size = 0
        for identity in [*(identity for identity in ids if identity.isascii()), None]:
            cost = 0 if identity is None else len(quote(identity, safe="")) + 5
            if batch and (identity is None or len(batch) == wire.FETCH_IDS or size + cost > _URL_BYTES):
                answer = self._service.get("/vectors/fetch", wire.encode_fetch(batch, self._theirs(namespace)))
                found |= {key: _record(vector)
                          for key, vector in self._service.decoded(wire.decode_fetched, answer).items()}
                batch, size = [], 0
            if identity is not None:
                batch.append(identity)
                size += cost
        return found

    def _search(self, vector: Vector, k: int, namespace: str, tree: Tree | None, with_values: bool) -> list[Match]:
        where = True if tree is None else encode(tree)
        if where is False:
            return []
        hits = self._service.decoded(wire.decode_matches, self._service.post("/query", wire.to_bytes(
            wire.encode_query(_floats(vector), k, self._theirs(namespace), None if where is True else where,
                              with_values))))
        sign = -1.0 if self.metric == "euclidean" else 1.0
        matches = []
        for hit in hits:
            metadata, document, _ = _decoded(hit.metadata)
            values = np.array(hit.values, dtype=np.float32) if with_values else None
            matches.append(Match(hit.id, sign * hit.score, metadata, values, document))
        return matches

    def _list(self, prefix: str, limit: int, cursor: str | None, namespace: str) -> IdPage:
        ids: list[str] = []
        while prefix.isascii() and len(ids) < limit:
            asked = wire.encode_listing(prefix, min(limit - len(ids), wire.LIST_IDS), cursor, self._theirs(namespace))
            page, cursor = self._service.decoded(wire.decode_ids, self._service.get("/vectors/list", asked))
            ids += page
            if cursor is None:
                break
        return IdPage(ids, cursor if prefix.isascii() else None)

    def _counts(self) -> dict[str, int]:
        stats = self._service.decoded(wire.decode_stats, self._service.post("/describe_index_stats", b"{}"))
        return {unquote(name.removeprefix(RESERVED)) if name.startswith(RESERVED) else name: count
                for name, count in stats.counts.items()}

    def _theirs(self, namespace: str) -> str:
        """A namespace as the service takes it."""
        plain = namespace.isascii() and namespace.isprintable() and not namespace.startswith(RESERVED)
        name = namespace if plain and namespace != wire.DEFAULT_NAMESPACE else RESERVED + _escaped(namespace)
        if len(name) > validate.MAX_ID_CHARS:
            raise self._cannot(f"namespace {namespace!r:.80}, {len(name):,} characters when escaped,", "Shorten it.")
        return name

    def close(self) -> None:
        """Let go of the connections."""
        self._service.close()
        if self._controller is not None:
            self._controller.close()


# Records and what the service holds


def _vector(record: Record) -> wire.Vector:
    sparse = None if record.sparse is None else (list(record.sparse.indices), list(record.sparse.values))
    return wire.Vector(record.id, _floats(record.values), sparse, _encoded(record))


def _record(vector: wire.Vector) -> Record:
    metadata, document, context = _decoded(vector.metadata)
    sparse = None if vector.sparse is None else SparseVector(
        list(vector.sparse[0]), np.array(vector.sparse[1], dtype=np.float32).tolist())
    return Record(vector.id, np.array(vector.values, dtype=np.float32), sparse, metadata, document, context)


def _encoded(record: Record) -> Metadata:
    own = {_DOCUMENT: record.document, _CONTEXT: record.context, _WHOLE: _whole(record.metadata) or None}
    return {**record.metadata, **{field: value for field, value in own.items() if value is not None}}


def _whole(metadata: Metadata) -> list[str]:
    """The fields whose numbers are whole by type."""
    return [field for field, value in metadata.items() if isinstance(value, int) and not isinstance(value, bool)]


def _decoded(stored: Mapping[str, Any]) -> tuple[Metadata, str | None, str | None]:
    """Metadata, document and context."""
    whole = set(stored.get(_WHOLE, ()))
    metadata = {field: int(value) if field in whole and isinstance(value, float) and value.is_integer() else value
                for field, value in stored.items() if not field.startswith(RESERVED)}
    return metadata, stored.get(_DOCUMENT), stored.get(_CONTEXT)


def _floats(values: Vector | None) -> list[float]:
    return [] if values is None else [float(value) for value in values.tolist()]


# Addresses


def _named(url: str) -> tuple[str | None, dict[str, str]]:
    """The index's name, None where the URL is that of a host, and the URL's options."""
    parts = urlsplit(url)
    if parts.scheme != "pinecone" or not parts.netloc:
        raise InvalidInput(f"{url!r:.80} is not the URL of a Pinecone index.",
                           remedy="Write pinecone://NAME, or pinecone://HOST for an index's own address.")
    host = parts.path.strip("/") or any(sign in parts.netloc for sign in ".:[")
    return None if host else parts.netloc, dict(parse_qsl(parts.query))


def _controller(options: Mapping[str, str]) -> Service:
    address = options.get("controller") or os.environ.get("PINECONE_CONTROLLER_HOST") or CONTROLLER
    return Service(address, _key(address))


def _key(address: str) -> str:
    key = os.environ.get("PINECONE_API_KEY", "")
    if not key and not Service.is_local(address):
        raise ServiceError("Pinecone needs an API key.", kind="auth",
                           remedy="Set PINECONE_API_KEY to the key of your project.")
    return key or "local"


def _escaped(namespace: str) -> str:
    return quote(namespace, safe="")
