"""Pinecone's control plane: an index is a collection, and what the protocol wants remembered with it its attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from madang.base.errors import Conflict, InvalidInput, MadangError, NotFound
from madang.index import HNSW, Flat
from madang.models.protocol import Embedder
from madang.models.sparse import SPARSE_MODELS
from madang.serve.access import Identity
from madang.serve.http import Reply, Request, as_json
from madang.serve.work import Work
from madang.store import Collection
from madang.wire import pinecone_indexes as wire
from madang.workspace import Workspace

VERSION_HEADER = b"x-pinecone-api-version"
# Attributes of a collection.
TAGS, PROTECTED, DEPLOYMENT = "pinecone.tags", "pinecone.deletion_protection", "pinecone.deployment"
CAPACITY, FILTERABLE = "pinecone.read_capacity", "pinecone.metadata_schema"
VECTOR_TYPE = "pinecone.vector_type"      # "sparse" where the dense vectors are one number that nobody sees
EMBED = "pinecone.embed"                  # {"model", "field_map", "dimension", "metric", ...}: see wire
FIELDS = "pinecone.fields"                # of a 2026-07 schema, as they were given
NAMESPACES = "pinecone.namespaces"        # those that were made, so that they are there while they are empty
HIDDEN_DIM = 1
EmbedderOf = Callable[[str, int | None], Embedder]


class Protected(MadangError, PermissionError):
    """An index may not be deleted."""

    code = "protected"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a request of the data plane has to know of an index; it never changes."""

    sparse: bool          # sparse vectors only
    both: bool            # dense vectors that may have sparse ones beside them
    distance: bool        # scores are distances


class Indexes:
    """Handlers of the control plane. `embedder_of` gives the model of a name and of the dimension asked for."""

    def __init__(self, workspace: Workspace, work: Work, embedder_of: EmbedderOf | None = None) -> None:
        self._workspace, self._work = workspace, work
        self._embedder_of = embedder_of or self._own_embedder
        self._kinds: WeakKeyDictionary[Collection, Kind] = WeakKeyDictionary()

    def _own_embedder(self, model: str, dim: int | None) -> Embedder:
        found = self._workspace.models.embedder(model)
        if dim not in (None, found.dim):
            raise InvalidInput(f"embed.dimension is {dim}, but {model} gives vectors of {found.dim}.",
                               remedy="Leave it out.")
        return found

    # Handlers

    async def create(self, request: Request) -> Reply:
        """POST /indexes."""
        return await self._made(request, wire.decode_create(request.json()))

    async def create_for_model(self, request: Request) -> Reply:
        """POST /indexes/create-for-model."""
        return await self._made(request, wire.decode_create_for_model(request.json()))

    async def _made(self, request: Request, plan: wire.Plan) -> Reply:
        request.identity.require("admin")
        if plan.embed is not None:
            embed = plan.embed
            if embed.model in SPARSE_MODELS:
                plan = replace(plan, dim=None, metric="dot", embed=replace(embed, dim=None, metric="dot"))
            else:
                dim = await self._work.long(lambda: self._embedder_of(embed.model, embed.dim).dim)
                plan = replace(plan, dim=dim, embed=replace(embed, dim=dim, metric=plan.metric))
        await self._work.write(lambda: self._create(plan))
        return as_json(self._described(request, plan), 201)

    def _create(self, plan: wire.Plan) -> None:
        sparse = plan.dim is None
        index = Flat() if sparse else HNSW()
        try:
            self._workspace.create_collection(plan.name, plan.dim or HIDDEN_DIM, plan.metric, index,
                                              attributes=_attributes(plan))
        except Conflict:
            raise Conflict(f"index {plan.name!r} exists already.", remedy="Choose another name.") from None

    async def listing(self, request: Request) -> Reply:
        """GET /indexes: every collection of the workspace."""
        reads(request.identity)
        plans = await self._work.long(self._plans)
        return as_json(wire.encode_indexes([self._described(request, plan) for plan in plans]))

    def _plans(self) -> list[wire.Plan]:
        found = []
        for name in self._workspace.collections():
            try:
                found.append(plan_of(self._workspace.collection(name)))
            except NotFound:         # dropped meanwhile
                continue
        return found

    async def describe(self, request: Request) -> Reply:
        """GET /indexes/{name}."""
        reads(request.identity)
        plan = await self._work.long(lambda: plan_of(self.named(request.parts["name"])))
        return as_json(self._described(request, plan))

    async def configure(self, request: Request) -> Reply:
        """PATCH /indexes/{name}: tags are merged, and an empty one goes."""
        request.identity.require("admin")
        changes = wire.decode_configure(request.json())
        return as_json(self._described(request, await self._work.write(
            lambda: self._configure(request.parts["name"], changes))))

    def _configure(self, name: str, changes: wire.Changes) -> wire.Plan:
        collection = self.named(name)
        plan, changed = plan_of(collection), dict[str, Any]()
        if changes.tags is not None:
            tags = {key: tag for key, tag in {**plan.tags, **changes.tags}.items() if tag}
            if len(tags) > wire.TAGS:
                raise InvalidInput(f"index {name!r} would have {len(tags)} tags; at most {wire.TAGS} are kept.",
                                   remedy='Remove some: give them the value "".')
            changed[TAGS] = tags
        if changes.protected is not None:
            changed[PROTECTED] = changes.protected
        if changes.read_capacity is not None:
            changed[CAPACITY] = dict(changes.read_capacity)
        if changes.deployment is not None:
            if plan.deployment.get("deployment_type") != "pod":
                raise InvalidInput(f"index {name!r} has no pods to scale.", remedy="Leave replicas and pod_type out.")
            changed[DEPLOYMENT] = {**plan.deployment, **changes.deployment}
        if changes.embed is not None:
            changed[EMBED] = self._embedding(plan, changes.embed)
        if changed:
            collection.set_attributes(changed)
        return plan_of(collection)

    def _embedding(self, plan: wire.Plan, asked: dict[str, Any] | Any) -> dict[str, Any]:
        """The embed configuration with the changes asked for; an index without one may get one of its dimension."""
        known = {} if plan.embed is None else wire.encode_embed(plan.embed)
        embed = wire.decode_embed({**known, **asked})
        if plan.embed is not None and embed.model != plan.embed.model:
            raise InvalidInput(f"index {plan.name!r} was made with {plan.embed.model}, not {embed.model!r:.80}.",
                               remedy="The model of an index cannot be changed; make another index.")
        found = self._embedder_of(embed.model, plan.dim)
        if found.dim != plan.dim:
            raise InvalidInput(f"{embed.model} gives vectors of {found.dim}, but index {plan.name!r} takes {plan.dim}.")
        return wire.encode_embed(replace(embed, dim=plan.dim, metric=plan.metric))

    async def delete(self, request: Request) -> Reply:
        """DELETE /indexes/{name}."""
        request.identity.require("admin")
        await self._work.write(lambda: self._delete(request.parts["name"]))
        return Reply(b"", 202, b"")

    def _delete(self, name: str) -> None:
        if self.named(name).attributes.get(PROTECTED):
            raise Protected(f"index {name!r} has deletion protection.", remedy="Disable it with configure_index first.")
        self._workspace.drop_collection(name)

    # For the others

    def named(self, name: str) -> Collection:
        """The collection of an index. Raises `NotFound`."""
        try:
            return self._workspace.collection(name)
        except (NotFound, InvalidInput):
            raise NotFound(f"no collection is called {name!r:.80}, so there is no such index.",
                           remedy="List the indexes there are.") from None

    def kind(self, collection: Collection) -> Kind | None:
        """None where it was never asked for: `learn` it, which reads files."""
        return self._kinds.get(collection)

    def learn(self, collection: Collection) -> Kind:
        """The kind of an index, from what is stored with it."""
        sparse = collection.attributes.get(VECTOR_TYPE) == "sparse"
        kind = self._kinds[collection] = Kind(sparse, not sparse and collection.metric == "dot",
                                              collection.metric == "euclidean")
        collection.count()          # what a first search has to read is in memory afterwards
        return kind

    def _described(self, request: Request, plan: wire.Plan) -> dict[str, Any]:
        version = wire.version_of(request.header(VERSION_HEADER))
        return wire.encode_index(plan, f"{request.base_url}/i/{quote(plan.name, safe='')}", version)


def reads(identity: Identity) -> None:
    """Whoever may read anything may know which indexes there are: a client asks for its host before all else."""
    identity.require("read", min(identity.namespaces) if identity.namespaces else None)


def plan_of(collection: Collection) -> wire.Plan:
    """A collection, whoever made it, as an index."""
    kept = collection.attributes
    plan = wire.Plan(collection.name, None if kept.get(VECTOR_TYPE) == "sparse" else collection.dim, collection.metric,
                     kept.get(TAGS, {}), bool(kept.get(PROTECTED)), read_capacity=kept.get(CAPACITY),
                     embed=wire.decode_embed(kept[EMBED]) if EMBED in kept else None, fields=kept.get(FIELDS),
                     filterable=kept.get(FILTERABLE))
    return replace(plan, deployment=kept[DEPLOYMENT]) if DEPLOYMENT in kept else plan


def _attributes(plan: wire.Plan) -> dict[str, Any]:
    kept: dict[str, Any] = {VECTOR_TYPE: "sparse" if plan.dim is None else None, TAGS: dict(plan.tags) or None,
                            PROTECTED: plan.protected or None, DEPLOYMENT: dict(plan.deployment),
                            CAPACITY: plan.read_capacity, FIELDS: plan.fields, FILTERABLE: plan.filterable,
                            EMBED: None if plan.embed is None else wire.encode_embed(plan.embed)}
    return {name: value for name, value in kept.items() if value is not None}
