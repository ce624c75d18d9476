"""Pinecone's documents of 2026-07: an index's schema, and upserting, searching, fetching, listing, updating, deleting.

Pure functions, as in `wire.pinecone`. Sources: https://docs.pinecone.io/reference/api/2026-07/data-plane and the
models of its Python client 10.2.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from madang.wire import lucene
from madang.wire.pinecone import Malformed, _line, _list, _numbers, _object
from madang.wire.pinecone_inference import text_of, whole
from madang.wire.pinecone_records import Sparse, metadata_of, record_id, sparse_of

DOCUMENTS, IDS, CLAUSES, LISTED = 1_000, 1_000, 100, 100      # of one request
DENSE_MODEL, SPARSE_MODEL = "llama-text-embed-v2", "pinecone-sparse-english-v0"    # where `embed` names none
Text: TypeAlias = Literal["text", "query_string"]
_ALONE = {"dense_vector": "values", "sparse_vector": "sparse_values", "embed": "query", "sparse_embed": "query"}
_KEYS = {"text": {"query", "fields", "field"}, "query_string": {"query"},
         **{kind: {key, "fields", "field"} for kind, key in _ALONE.items()}}


@dataclass(frozen=True, slots=True)
class Schema:
    """What the fields of an index are. `embed` and `sparse_embed`: the field that is embedded, and with which model.

    `texts` are searched by words, in the order of the schema; `unstored` are embedded and not kept.
    """

    dense: str | None = None
    sparse: str | None = None
    texts: tuple[str, ...] = ()
    embed: tuple[str, Mapping[str, Any]] | None = None
    sparse_embed: tuple[str, Mapping[str, Any]] | None = None
    unstored: frozenset[str] = frozenset()

    @property
    def searched(self) -> frozenset[str]:
        """The fields that are found by, and not filtered by."""
        named = {self.dense, self.sparse, *self.texts, *self.unstored}
        return frozenset(name for name in named if name is not None)


@dataclass(frozen=True, slots=True)
class Clause:
    """One of `score_by`: a field with a vector, a sparse vector, or text to embed; or words, as a tree."""

    kind: str
    field: str | None = None
    values: Sequence[float] | None = None
    sparse: Sparse | None = None
    query: str | None = None
    tree: lucene.Tree | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """POST documents/search; `fields` to give back, None for all."""

    clauses: Sequence[Clause]
    top_k: int
    fields: frozenset[str] | None = frozenset()
    filter: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Fetch:
    """POST documents/fetch: by ids, or by a filter, a page at a time."""

    ids: Sequence[str] | None = None
    filter: Mapping[str, Any] | None = None
    fields: frozenset[str] | None = None
    limit: int = 100
    after: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """POST documents/delete: by ids, by filter, or (neither) all of the namespace."""

    ids: Sequence[str] | None = None
    filter: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """What changes of a document."""

    set: Mapping[str, Any] = field(default_factory=dict)
    remove: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """POST documents/update: patches by id, or one for all that a filter matches."""

    patches: Mapping[str, Patch] = field(default_factory=dict)
    filter: Mapping[str, Any] | None = None
    patch: Patch = field(default_factory=Patch)


# --- requests ---


def decode_schema(fields: object) -> Schema:
    """The fields of a schema, as POST /indexes gives them. Raises `Malformed`."""
    dense = sparse = embed = sparse_embed = None
    texts, unstored = [], set()
    for name, item in _object(fields, "schema.fields").items():
        found = _object(item, f"schema.fields.{name:.60}")
        if found.get("type") == "dense_vector":
            dense = _only(dense, name, "dense_vector")
        elif found.get("type") == "sparse_vector":
            sparse = _only(sparse, name, "sparse_vector")
        elif found.get("type") == "string":
            embeds, sparsely = found.get("embed"), found.get("sparse_embed")
            if embeds is not None:
                embed = _only(embed, (name, {"model": DENSE_MODEL, **_object(embeds, f"{name:.60}.embed")}), "embed")
            if sparsely is not None:
                given = _object(sparsely, f"{name:.60}.sparse_embed")
                sparse_embed = _only(sparse_embed, (name, {"model": SPARSE_MODEL, **given}), "sparse_embed")
            embedded = embeds is not None or sparsely is not None
            if embedded and found.get("store_text") is False:
                unstored.add(name)
            elif embedded or found.get("full_text_search") is not None:
                texts.append(name)
    if (dense is not None and embed is not None) or (sparse is not None and sparse_embed is not None):
        raise Malformed("an index has one dense and one sparse vector: either given or embedded")
    return Schema(dense, sparse, tuple(texts), embed, sparse_embed, frozenset(unstored))


def _only(there: Any, new: Any, what: str) -> Any:
    if there is not None:
        raise Malformed(f"schema.fields has more than one {what}; an index has one")
    return new


def decode_documents(payload: object) -> dict[str, dict[str, Any]]:
    """The documents of POST documents/upsert, by id. Raises `Malformed`."""
    items = _list(_object(payload, "the body").get("documents"), "documents")
    if not 1 <= len(items) <= DOCUMENTS:
        raise Malformed(f"documents must hold 1 to {DOCUMENTS:,} documents, not {len(items):,}")
    found: dict[str, dict[str, Any]] = {}
    for place, item in enumerate(items):
        fields = dict(_object(item, f"documents[{place}]"))
        identity = record_id(fields.pop("_id", None), f"documents[{place}]._id")
        if identity in found:
            raise Malformed(f"documents[{place}]: _id {identity!r:.60} is there twice")
        found[identity] = metadata_of(fields, f"documents[{place}]")
    return found


def decode_search(payload: object) -> Search:
    """The body of POST documents/search. Raises `Malformed`."""
    body = _object(payload, "the body")
    items = _list(body.get("score_by"), "score_by")
    if not 1 <= len(items) <= CLAUSES:
        raise Malformed(f"score_by must hold 1 to {CLAUSES} clauses, not {len(items):,}")
    clauses = [_clause(_object(item, f"score_by[{place}]"), f"score_by[{place}]") for place, item in enumerate(items)]
    if len(clauses) > 1 and any(clause.kind in _ALONE for clause in clauses):
        raise Malformed("clauses of type text and query_string may be combined in score_by; others stand alone")
    return Search(clauses, whole(body.get("top_k"), "top_k"), _included(body, frozenset()),
                  filter_of(body) if body.get("filter") else None)


def _clause(found: Mapping[str, Any], where: str) -> Clause:
    kind = found.get("type")
    if kind not in _KEYS:
        raise Malformed(f"{where}.type must be one of {', '.join(_KEYS)}, not {_line(repr(kind)):.80}")
    unknown = sorted(set(found) - _KEYS[kind] - {"type"})
    if unknown:
        raise Malformed(f"{where} of type {kind} has no {unknown[0]!r:.60}")
    if kind == "query_string":
        return Clause(kind, tree=lucene.parse(text_of(found, "query")))
    fields = found.get("fields") if found.get("field") is None else [found["field"]]
    if not isinstance(fields, list) or not fields or not all(isinstance(name, str) and name for name in fields):
        raise Malformed(f"{where} must name its fields, not {_line(repr(fields)):.80}")
    if kind == "text":
        return Clause(kind, tree=lucene.any_of(text_of(found, "query"), fields))
    if len(fields) != 1:
        raise Malformed(f"{where} of type {kind} takes one field, not {len(fields)}")
    if kind == "dense_vector":
        return Clause(kind, fields[0], values=_numbers(found.get("values"), f"{where}.values"))
    if kind == "sparse_vector":
        parts = _object(found.get("sparse_values"), f"{where}.sparse_values")
        return Clause(kind, fields[0], sparse=sparse_of(parts.get("indices"), parts.get("values"), where))
    return Clause(kind, fields[0], query=text_of(found, "query"))


def decode_fetch(payload: object) -> Fetch:
    """The body of POST documents/fetch. Raises `Malformed`."""
    body = _object(payload, "the body")
    ids, limit, token = body.get("ids"), body.get("limit"), body.get("pagination_token")
    by_filter = body.get("filter") is not None
    if bool(ids) == by_filter:
        raise Malformed("a fetch needs either ids or filter")
    if token is not None and not by_filter:
        raise Malformed("pagination_token goes with filter only")
    return Fetch(_ids(ids) if ids else None, filter_of(body) if by_filter else None, _included(body, None) or None,
                 100 if limit is None else whole(limit, "limit"), decode_token(token))


def decode_delete(payload: object) -> Delete:
    """The body of POST documents/delete. Raises `Malformed`."""
    body = _object(payload, "the body")
    ids, everything, by_filter = body.get("ids"), body.get("delete_all") is True, body.get("filter") is not None
    if bool(ids) + by_filter + everything != 1:
        raise Malformed("a delete needs exactly one of ids, filter and delete_all")
    return Delete(_ids(ids) if ids else None, filter_of(body) if by_filter else None)


def decode_listing(payload: object) -> tuple[str, int, str]:
    """Prefix, limit, and the id after which the page begins, of POST documents/list. Raises `Malformed`."""
    body = _object(payload, "the body")
    prefix, limit = body.get("prefix"), body.get("limit")
    if prefix is not None and (not isinstance(prefix, str) or len(prefix) > 512):
        raise Malformed(f"prefix must be text of at most 512 characters, not {_line(repr(prefix)):.80}")
    return (prefix or "", LISTED if limit is None else whole(limit, "limit", most=LISTED),
            decode_token(body.get("pagination_token")))


def decode_update(payload: object) -> Update:
    """The body of POST documents/update. Raises `Malformed`."""
    body = _object(payload, "the body")
    documents, by_filter = body.get("documents"), body.get("filter") is not None
    changes, removed = body.get("set_fields"), body.get("remove_fields")
    if (documents is not None) == by_filter or (documents is not None and (changes or removed)):
        raise Malformed("an update needs either documents, or filter with set_fields or remove_fields")
    if by_filter:
        patch = _patch(_object(changes or {}, "set_fields"), removed, "remove_fields")
        if not patch.set and not patch.remove:
            raise Malformed("an update by filter needs set_fields or remove_fields")
        return Update(filter=filter_of(body), patch=patch)
    items = _list(documents, "documents")
    if not 1 <= len(items) <= DOCUMENTS:
        raise Malformed(f"documents must hold 1 to {DOCUMENTS:,} documents, not {len(items):,}")
    patches: dict[str, Patch] = {}
    for place, item in enumerate(items):
        fields = dict(_object(item, f"documents[{place}]"))
        identity = record_id(fields.pop("_id", None), f"documents[{place}]._id")
        if identity in patches:
            raise Malformed(f"documents[{place}]: _id {identity!r:.60} is there twice")
        patches[identity] = _patch(fields, fields.pop("_remove_fields", None), f"documents[{place}]._remove_fields")
    return Update(patches)


def _patch(changes: Mapping[str, Any], removed: object, where: str) -> Patch:
    names = _names([] if removed is None else removed, where)
    both = sorted(set(names) & set(changes))
    if both:
        raise Malformed(f"{where}: {both[0]!r:.60} is set and removed at once")
    return Patch(metadata_of(changes, "a patch"), names)


# --- answers ---


def encode_found(matches: Iterable[tuple[str, float, Mapping[str, Any]]], namespace: str,
                 tokens: int | None) -> dict[str, Any]:
    """The answer to a search: id, score and fields of each, best first; `tokens` that were embedded for it."""
    return {"matches": [{"_id": identity, "_score": score, **fields} for identity, score, fields in matches],
            "namespace": namespace,
            "usage": {"read_units": 1, **({} if tokens is None else {"embed_total_tokens": tokens})}}


def encode_fetched(documents: Mapping[str, Mapping[str, Any]], namespace: str, after: str | None) -> dict[str, Any]:
    """The answer to a fetch, with the last id of the page where another follows."""
    return {"documents": {identity: {"_id": identity, **fields} for identity, fields in documents.items()},
            "namespace": namespace, "usage": {"read_units": 1}, **_page(after)}


def encode_listed(ids: Iterable[str], namespace: str, after: str | None) -> dict[str, Any]:
    """The answer to a listing."""
    return {"documents": [{"_id": identity} for identity in ids], "namespace": namespace, "usage": {"read_units": 1},
            **_page(after)}


def encode_written(key: str, count: int | None, tokens: int | None) -> dict[str, Any]:
    """The answer to an upsert ("upserted_count"), an update or a delete ("matched_records")."""
    return {**({} if count is None else {key: count}),
            **({} if tokens is None else {"usage": {"embed_total_tokens": tokens}})}


def _page(after: str | None) -> dict[str, Any]:
    return {} if after is None else {"pagination": {"next": encode_token(after)}}


def encode_token(after: str) -> str:
    """The last id of a page as the token of the next."""
    return urlsafe_b64encode(after.encode()).decode()


def decode_token(token: object) -> str:
    """What `encode_token` was given; "" for none. Raises `Malformed`."""
    if token is None:
        return ""
    try:
        return b64decode(token, b"-_", validate=True).decode() if isinstance(token, str) else _no_token(token)
    except ValueError:
        return _no_token(token)


def _no_token(token: object) -> str:
    raise Malformed(f"pagination_token {_line(repr(token)):.80} was not given by this server")


# --- values ---


def filter_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A filter that says something."""
    where = _object(body.get("filter"), "filter")
    if not where:
        raise Malformed("filter must hold a condition")
    return where


def _included(body: Mapping[str, Any], default: frozenset[str] | None) -> frozenset[str] | None:
    names = body.get("include_fields")
    if names is None:
        return default
    found = _names(names, "include_fields")
    return None if "*" in found else frozenset(found)


def _names(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise Malformed(f"{what} must be a list of names, not {_line(repr(value)):.80}")
    return value


def _ids(value: object) -> list[str]:
    ids = _list(value, "ids")
    if len(ids) > IDS:
        raise Malformed(f"ids holds {len(ids):,} ids; at most {IDS:,} are taken")
    return [record_id(each, "an id") for each in ids]
