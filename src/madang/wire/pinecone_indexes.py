"""Pinecone's control plane as a server reads and writes it, in the form of each version.

Versions up to 2025-10 describe an index by `dimension`, `metric`, `vector_type` and `spec`; 2026-07 by a `schema` of
fields and a `deployment`. What was asked is understood by what the body holds, whatever version the header names; the
answer has the form of the version. `Plan` is what both come to.

Sources: https://docs.pinecone.io/reference/api/2025-04/control-plane, .../2025-10/... and .../2026-07/...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from madang.wire.pinecone import METRICS, Malformed, _line, _object, _string
from madang.wire.pinecone_answers import THEIRS
from madang.wire.pinecone_documents import DENSE_MODEL

VERSIONS = ("2025-04", "2025-10", "2026-07")
DENSE, SPARSE = "_values", "_sparse_values"      # what 2026-07 calls the fields of an index that earlier clients made
NAME_CHARS = 45
TAGS, TAG_CHARS, TAG_VALUE_CHARS = 20, 80, 120
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_MANAGED = {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}
_FIELDS = ("dense_vector", "sparse_vector", "string", "string_list", "integer", "float", "boolean", "semantic_text")


@dataclass(frozen=True, slots=True)
class Embed:
    """The model that embeds an index's records; `dim` and `metric` (in our words) None where the model decides."""

    model: str
    field_map: Mapping[str, str] = field(default_factory=dict)
    dim: int | None = None
    metric: str | None = None
    read_parameters: Mapping[str, Any] = field(default_factory=dict)
    write_parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """An index as it is asked for and described; `metric` in our words, `dim` None for sparse vectors only.

    `fields` are those of a 2026-07 schema, as they were given, None for an index of earlier versions; `filterable` the
    metadata schema of those.
    """

    name: str
    dim: int | None
    metric: str = "cosine"
    tags: Mapping[str, str] = field(default_factory=dict)
    protected: bool = False
    deployment: Mapping[str, Any] = field(default_factory=lambda: dict(_MANAGED))
    read_capacity: Mapping[str, Any] | None = None
    embed: Embed | None = None
    fields: Mapping[str, Any] | None = None
    filterable: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """PATCH /indexes/{name}: what is None stays; a tag whose value is "" goes."""

    tags: Mapping[str, str] | None = None
    protected: bool | None = None
    read_capacity: Mapping[str, Any] | None = None
    deployment: Mapping[str, Any] | None = None
    embed: Mapping[str, Any] | None = None


def version_of(header: str) -> str:
    """The version to answer in: the newest one not newer than what was asked for; none, or an older one, is the first.

    Names that begin with a letter ("alpha", "unstable") are newer than all.
    """
    return next((version for version in reversed(VERSIONS) if version <= header), VERSIONS[0])


# --- requests ---


def decode_create(payload: object) -> Plan:
    """The body of POST /indexes, of any version."""
    body = _object(payload, "the body")
    name = index_name(body.get("name"))
    tags, protected = _tags(body.get("tags")), _protected(body) or False
    if "schema" in body or "deployment" in body:
        return replace(_of_schema(name, body), tags=tags, protected=protected)
    kind = body.get("vector_type") or "dense"
    if kind not in ("dense", "sparse"):
        raise Malformed(f"vector_type must be dense or sparse, not {_line(repr(kind)):.80}")
    deployment, read_capacity, filterable = _of_spec(body.get("spec"))
    if kind == "sparse":
        if body.get("dimension") or body.get("metric") not in (None, "dotproduct"):
            raise Malformed("an index of vector_type sparse has no dimension, and its metric is dotproduct")
        return Plan(name, None, "dot", tags, protected, deployment, read_capacity, filterable=filterable)
    return Plan(name, _dimension(body.get("dimension")), _metric(body.get("metric")), tags, protected, deployment,
                read_capacity, filterable=filterable)


def _of_schema(name: str, body: Mapping[str, Any]) -> Plan:
    fields = _object(_object(body.get("schema"), "schema").get("fields"), "schema.fields")
    if not fields:
        raise Malformed("schema.fields must name at least one field")
    dim, metric, embed, dense = None, "dot", None, 0
    for key, item in fields.items():
        found = _object(item, f"schema.fields.{key:.60}")
        kind = found.get("type")
        if kind not in _FIELDS or kind == "semantic_text":
            raise Malformed(f"schema.fields.{key:.60}: type must be one of {', '.join(_FIELDS[:-1])}, "
                            f"not {_line(repr(kind)):.80}")
        if kind == "dense_vector":
            dim, metric, dense = _dimension(found.get("dimension")), _metric(found.get("metric")), dense + 1
        elif found.get("embed") is not None:
            embed = _embed({"model": DENSE_MODEL, "field_map": {"text": key},
                            **_object(found["embed"], f"{key:.60}.embed")})
            dense += 1
    if dense > 1:
        raise Malformed("schema.fields holds several dense vectors; one an index is kept")
    given = body.get("deployment")
    deployment = _MANAGED if given is None else {**_MANAGED, **_object(given, "deployment")}
    return Plan(name, dim, metric if embed is None else embed.metric or "cosine", deployment=deployment,
                read_capacity=_capacity(body.get("read_capacity")), embed=embed, fields=fields)


def _of_spec(value: object) -> tuple[Mapping[str, Any], Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The deployment, the read capacity and the metadata schema of a `spec`."""
    spec = _object(value, "spec")
    kinds = [kind for kind in ("serverless", "pod", "byoc") if kind in spec]
    if len(kinds) != 1:
        raise Malformed("spec needs one of serverless, pod and byoc")
    kind = kinds[0]
    found = _object(spec[kind], f"spec.{kind}")
    if found.get("source_collection"):
        raise Malformed(f"spec.{kind}.source_collection: there are no collections here to make an index from")
    deployment: dict[str, Any]
    if kind == "serverless":
        deployment = {"deployment_type": "managed", **{key: _string(found.get(key), f"spec.serverless.{key}")
                                                       for key in ("cloud", "region")}}
    elif kind == "byoc":
        deployment = {"deployment_type": "byoc", "environment": _string(found.get("environment"), "environment")}
    else:
        deployment = {"deployment_type": "pod", "environment": _string(found.get("environment"), "environment"),
                      "pod_type": _string(found.get("pod_type") or "p1.x1", "spec.pod.pod_type"),
                      "replicas": _count(found.get("replicas"), "replicas"),
                      "shards": _count(found.get("shards"), "shards")}
    schema = found.get("schema")
    return deployment, _capacity(found.get("read_capacity")), None if schema is None else _object(schema, "schema")


def decode_create_for_model(payload: object) -> Plan:
    """The body of POST /indexes/create-for-model; `dim` is what the body asks for, or None for the model's own."""
    body = _object(payload, "the body")
    embed = _embed(body.get("embed"))
    if not embed.field_map.get("text"):
        raise Malformed('embed.field_map must name the field that holds the text: {"text": "..."}')
    deployment = {"deployment_type": "managed", "cloud": _string(body.get("cloud"), "cloud"),
                  "region": _string(body.get("region"), "region")}
    schema = body.get("schema")
    return Plan(index_name(body.get("name")), embed.dim, embed.metric or "cosine", _tags(body.get("tags")),
                _protected(body) or False, deployment, _capacity(body.get("read_capacity")), embed,
                filterable=None if schema is None else _object(schema, "schema"))


def decode_configure(payload: object) -> Changes:
    """The body of PATCH /indexes/{name}, of any version."""
    body = _object(payload, "the body")
    spec = _object(body.get("spec") or {}, "spec")
    serverless = _object(spec.get("serverless") or {}, "spec.serverless")
    scaled = _object(body.get("deployment") or spec.get("pod") or {}, "deployment")
    deployment = {**({"replicas": _count(scaled["replicas"], "replicas")} if "replicas" in scaled else {}),
                  **({"pod_type": _string(scaled["pod_type"], "pod_type")} if "pod_type" in scaled else {})}
    embed = body.get("embed")
    return Changes(None if body.get("tags") is None else _tags(body["tags"]), _protected(body),
                   _capacity(body.get("read_capacity") or serverless.get("read_capacity")), deployment or None,
                   None if embed is None else _object(embed, "embed"))


def index_name(value: object) -> str:
    """As the service names indexes."""
    if not isinstance(value, str) or not _NAME.fullmatch(value) or len(value) > NAME_CHARS:
        raise Malformed(f"name must consist of lower case letters a to z, digits and '-', begin and end with a letter "
                        f"or a digit, and have at most {NAME_CHARS} characters; {_line(repr(value)):.80} does not")
    return value


def _embed(value: object) -> Embed:
    found = _object(value, "embed")
    field_map = _object(found.get("field_map") or {}, "embed.field_map")
    if any(not isinstance(name, str) for name in field_map.values()):
        raise Malformed("embed.field_map must name fields")
    dim, metric = found.get("dimension"), found.get("metric")
    return Embed(_string(found.get("model"), "embed.model"), field_map, None if dim is None else _dimension(dim),
                 None if metric is None else _metric(metric),
                 _object(found.get("read_parameters") or {}, "embed.read_parameters"),
                 _object(found.get("write_parameters") or {}, "embed.write_parameters"))


def _tags(value: object) -> Mapping[str, str]:
    tags = _object({} if value is None else value, "tags")
    for key, tag in tags.items():
        if not isinstance(tag, str) or not 0 < len(key) <= TAG_CHARS or len(tag) > TAG_VALUE_CHARS:
            raise Malformed(f"tag {key!r:.60} must be text of at most {TAG_VALUE_CHARS} characters under a name of "
                            f"at most {TAG_CHARS}")
    if len(tags) > TAGS:
        raise Malformed(f"tags holds {len(tags)} tags; at most {TAGS} are kept")
    return tags


def _protected(body: Mapping[str, Any]) -> bool | None:
    value = body.get("deletion_protection")
    if value not in (None, "enabled", "disabled"):
        raise Malformed(f"deletion_protection must be enabled or disabled, not {_line(repr(value)):.80}")
    return None if value is None else value == "enabled"


def _dimension(value: object) -> int:
    if type(value) is not int or not 1 <= value <= 20_000:
        raise Malformed(f"dimension must be a whole number from 1 to 20,000, not {_line(repr(value)):.80}")
    return value


def _count(value: object, what: str) -> int:
    if value is None:
        return 1
    if type(value) is not int or not 1 <= value <= 1_000:
        raise Malformed(f"{what} must be a whole number from 1 to 1,000, not {_line(repr(value)):.80}")
    return value


def _metric(value: object) -> str:
    metric = "cosine" if value is None else METRICS.get(value.lower() if isinstance(value, str) else "")
    if metric is None:
        raise Malformed(f"metric must be one of {', '.join(METRICS)}, not {_line(repr(value)):.80}")
    return metric


def _capacity(value: object) -> Mapping[str, Any] | None:
    if value is None:
        return None
    found = _object(value, "read_capacity")
    if found.get("mode") not in ("OnDemand", "Dedicated"):
        raise Malformed(f"read_capacity.mode must be OnDemand or Dedicated, not {_line(repr(found.get('mode'))):.80}")
    return found


# --- answers ---


def encode_index(plan: Plan, host: str, version: str) -> dict[str, Any]:
    """An index as POST /indexes and GET /indexes/{name} describe it in a version."""
    body: dict[str, Any] = {
        "name": plan.name, "host": host, "status": {"ready": True, "state": "Ready"},
        "deletion_protection": "enabled" if plan.protected else "disabled", "tags": dict(plan.tags) or None}
    if version >= "2026-07":
        return {**body, "schema": {"fields": _fields(plan)}, "deployment": dict(plan.deployment),
                "read_capacity": _told_capacity(plan.read_capacity)}
    body |= {"metric": THEIRS[plan.metric], "vector_type": "sparse" if plan.dim is None else "dense",
             "spec": _spec(plan, version)}
    if plan.dim is not None:
        body["dimension"] = plan.dim
    if plan.embed is not None:
        body["embed"] = {**encode_embed(plan.embed), "dimension": plan.dim, "metric": THEIRS[plan.metric],
                         "vector_type": "sparse" if plan.dim is None else "dense"}
    return body


def encode_indexes(described: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer to GET /indexes."""
    return {"indexes": described}


def encode_embed(embed: Embed) -> dict[str, Any]:
    """As create-for-model takes it, without what was not said."""
    said = {"model": embed.model, "field_map": dict(embed.field_map), "dimension": embed.dim,
            "metric": None if embed.metric is None else THEIRS[embed.metric],
            "read_parameters": dict(embed.read_parameters) or None,
            "write_parameters": dict(embed.write_parameters) or None}
    return {key: value for key, value in said.items() if value is not None}


def decode_embed(payload: object) -> Embed:
    """What `encode_embed` gave."""
    return _embed(payload)


def _fields(plan: Plan) -> dict[str, Any]:
    if plan.fields is not None:
        return dict(plan.fields)
    if plan.embed is not None:
        told = encode_embed(replace(plan.embed, metric=plan.metric))
        return {plan.embed.field_map.get("text", "text"): {"type": "semantic_text", **{
            key: told[key] for key in ("model", "metric", "read_parameters", "write_parameters") if key in told}}}
    if plan.dim is None:
        return {SPARSE: {"type": "sparse_vector"}}
    return {DENSE: {"type": "dense_vector", "dimension": plan.dim, "metric": THEIRS[plan.metric]}}


def _spec(plan: Plan, version: str) -> dict[str, Any]:
    deployment = plan.deployment
    rest = {key: value for key, value in deployment.items() if key != "deployment_type"}
    newer: dict[str, Any] = {}
    if version >= "2025-10":
        newer = {"read_capacity": _told_capacity(plan.read_capacity)}
        if plan.filterable is not None:
            newer["schema"] = dict(plan.filterable)
    match deployment.get("deployment_type"):
        case "pod":
            return {"pod": {**rest, "pods": int(rest.get("replicas", 1)) * int(rest.get("shards", 1))}}
        case "byoc":
            return {"byoc": {**rest, **newer}}
    return {"serverless": {**rest, **newer}}


def _told_capacity(capacity: Mapping[str, Any] | None) -> dict[str, Any]:
    given: dict[str, Any] = {"mode": "OnDemand"} if capacity is None else dict(capacity)
    manual = dict(dict(given.get("dedicated") or {}).get("manual") or {})
    return {**given, "status": {"state": "Ready", "current_shards": manual.get("shards"),
                                "current_replicas": manual.get("replicas")}}
