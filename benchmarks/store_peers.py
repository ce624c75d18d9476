"""The contenders of benchmarks/store.py, one small class each, used as their documentation says.

Everything that is not named here is the engine's default; nothing was tuned for or against anyone. All get unit vectors
to compare by cosine, 5,000 records a call, and are asked for ids and scores only. A contender whose recall depends on
two parameters has several `ladders`; the fastest that reaches the target counts. `durable` says what an engine left at its
defaults has done when a write returns, as counted by `strace -e trace=fsync,fdatasync`.

What is imported is imported in the methods: each contender runs alone, in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from benchmarks.store_contender import Contender, Setting
from benchmarks.store_data import Chunk, Vectors, identity, row_of

EF = [16, 24, 32, 48, 64, 100, 150, 200, 300, 400, 600, 800, 1200]


class Madang(Contender):
    """A collection with HNSW and its defaults; the setting is `target_recall`."""

    name, ours = "madang", True
    modules, packages = ("madang", "madang.workspace", "madang.store"), ("madang",)
    durable = "committed and synced (SQLite, synchronous=FULL)"
    ladders: ClassVar[list[list[Setting]]] = [[None, 0.9, 0.95, 0.98, 0.985, 0.99, 0.995, 1.0]]

    def create(self) -> None:
        import madang

        self.workspace = madang.open(self.folder)
        self.collection = self.workspace.create_collection("bench", self.dim, "cosine", madang.HNSW())

    def open(self) -> None:
        import madang

        self.workspace = madang.open(self.folder, create=False)
        self.collection = self.workspace.collection("bench")

    def insert(self, chunk: Chunk) -> None:
        columns = getattr(self.collection, "upsert_columns", None)
        if columns:     # the batch form, where this version has it
            columns(chunk.ids, chunk.values, chunk.metadata)
            return
        self.collection.upsert({"id": name, "values": values, "metadata": metadata} for name, values, metadata
                               in zip(chunk.ids, chunk.values, chunk.metadata, strict=True))

    def delete(self, ids: list[str]) -> None:
        self.collection.delete(ids)

    def finish(self) -> None:
        self.collection.wait_until_indexed()

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        found = self.collection.query(vector=query, top_k=k, include_metadata=False, target_recall=self.setting,
                                      filter=None if below is None else {"part": {"$lt": below}})
        return [match.id for match in found.matches]

    def close(self) -> None:
        self.workspace.close()


class Chroma(Contender):
    """PersistentClient, HNSW by cosine; `ef_search` is the collection's."""

    name, modules, packages = "chroma", ("chromadb",), ("chromadb",)
    durable = "committed and synced (SQLite); its index every 1,000 records"
    ladders: ClassVar[list[list[Setting]]] = [EF]
    setting = 100

    def start(self) -> Any:
        import chromadb

        self.connection = chromadb.PersistentClient(str(self.folder), chromadb.Settings(anonymized_telemetry=False))
        return self.connection

    def create(self) -> None:
        self.collection = self.start().create_collection("bench", configuration={"hnsw": {"space": "cosine"}},
                                                         embedding_function=None)

    def open(self) -> None:
        self.collection = self.start().get_collection("bench", embedding_function=None)

    def insert(self, chunk: Chunk) -> None:
        self.collection.add(chunk.ids, chunk.values, chunk.metadata)

    def update(self, chunk: Chunk) -> None:
        self.collection.upsert(chunk.ids, chunk.values, chunk.metadata)

    def delete(self, ids: list[str]) -> None:
        self.collection.delete(ids)

    def set(self, setting: Setting) -> None:
        if setting != self.setting:     # kept with the collection, and read when it is opened
            self.collection.modify(configuration={"hnsw": {"ef_search": setting}})
            self.close()
            self.open()
        self.setting = setting

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        found = self.collection.query(query_embeddings=query[None], n_results=k, include=["distances"],
                                      where=None if below is None else {"part": {"$lt": below}})
        return found["ids"][0]      # type: ignore[no-any-return]

    def close(self) -> None:
        self.connection.close()


class Lance(Contender):
    """IVF_HNSW_SQ with its defaults and a B-tree on "part"; settings are ef and refine_factor."""

    name, modules, packages = "lancedb", ("lancedb", "pyarrow", "lancedb.index"), ("lancedb",)
    durable = "written as a new version of the table, never synced"
    ladders: ClassVar[list[list[Setting]]] = [[[None, ef, refine] for ef in EF if ef >= 10 * refine] for refine in (1, 2, 5)]
    setting = (None, None, 1)

    def create(self) -> None:
        import lancedb
        import pyarrow as pa

        self.schema = pa.schema([
            ("id", pa.string()), ("vector", pa.list_(pa.float32(), self.dim)), ("year", pa.int32()),
            ("lang", pa.string()), ("part", pa.int32()), ("tags", pa.list_(pa.string()))])
        self.table = lancedb.connect(str(self.folder)).create_table("bench", schema=self.schema)

    def open(self) -> None:
        import lancedb

        self.table = lancedb.connect(str(self.folder)).open_table("bench")
        self.schema = self.table.schema

    def arrow(self, chunk: Chunk) -> Any:
        """A chunk as an Arrow table."""
        import pyarrow as pa

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(chunk.values.ravel()), self.dim)
        fields = {name: [one[name] for one in chunk.metadata] for name in ("year", "lang", "part", "tags")}
        return pa.table({"id": chunk.ids, "vector": vectors, **fields}, schema=self.schema)

    def insert(self, chunk: Chunk) -> None:
        self.table.add(self.arrow(chunk))

    def update(self, chunk: Chunk) -> None:
        self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(self.arrow(chunk))

    def delete(self, ids: list[str]) -> None:
        self.table.delete(f"id IN ({', '.join(map(repr, ids))})")

    def config(self) -> Any:
        """The index."""
        from lancedb.index import HnswSq

        return HnswSq(distance_type="cosine")

    def finish(self) -> None:
        from datetime import timedelta

        from lancedb.index import BTree

        if not list(self.table.list_indices()):
            self.table.create_index("vector", config=self.config(), wait_timeout=timedelta(hours=1))
            self.table.create_index("part", config=BTree(), wait_timeout=timedelta(hours=1))
        self.table.optimize()

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        nprobes, ef, refine = self.setting
        search = self.table.search(query, vector_column_name="vector").distance_type("cosine").select(["id", "_distance"]).limit(k)
        if nprobes:
            search = search.nprobes(nprobes)
        if ef:
            search = search.ef(ef)
        if refine > 1:
            search = search.refine_factor(refine)
        if below is not None:
            search = search.where(f"part < {below}", prefilter=True)
        return search.to_arrow()["id"].to_pylist()      # type: ignore[no-any-return]


class LancePQ(Lance):
    """IVF_PQ with its defaults; settings are nprobes and refine_factor."""

    name = "lancedb-ivf-pq"

    def __init__(self, folder: Path, dim: int, n: int) -> None:
        super().__init__(folder, dim, n)
        probes = [4, 8, 12, 16, 20, 30, 40, 60, 80, 120, 160, 240, 320]
        self.ladders = [[[nprobes, None, refine] for nprobes in probes] for refine in (10, 40)]

    def config(self) -> Any:
        from lancedb.index import IvfPq

        return IvfPq(distance_type="cosine")


class Milvus(Contender):
    """HNSW (M 16, efConstruction 200) and an INVERTED index on "part"; `ef` is the search's."""

    name, modules, packages = "milvus-lite", ("pymilvus", "milvus_lite"), ("milvus-lite", "pymilvus")
    durable = "written to its log, synced only when that is flushed"
    ladders: ClassVar[list[list[Setting]]] = [EF]
    setting = 64

    def start(self) -> Any:
        from pymilvus import MilvusClient

        self.connection = MilvusClient(str(self.folder / "bench.db"))
        return self.connection

    def create(self) -> None:
        from pymilvus import DataType, MilvusClient

        self.folder.mkdir(parents=True, exist_ok=True)
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=32)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dim)
        for name in ("year", "part"):
            schema.add_field(name, DataType.INT64)
        schema.add_field("lang", DataType.VARCHAR, max_length=8)
        schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=4, max_length=8)
        client = self.start()
        indexes = client.prepare_index_params()
        indexes.add_index(field_name="vector", index_type="HNSW", metric_type="COSINE",
                          params={"M": 16, "efConstruction": 200})
        indexes.add_index(field_name="part", index_type="INVERTED")
        client.create_collection("bench", schema=schema, index_params=indexes)

    def open(self) -> None:
        self.start().load_collection("bench")

    def rows(self, chunk: Chunk) -> list[dict[str, Any]]:
        """A chunk as pymilvus wants it."""
        return [{"id": name, "vector": values, **metadata}
                for name, values, metadata in zip(chunk.ids, chunk.values, chunk.metadata, strict=True)]

    def insert(self, chunk: Chunk) -> None:
        self.connection.insert("bench", self.rows(chunk))

    def update(self, chunk: Chunk) -> None:
        self.connection.upsert("bench", self.rows(chunk))

    def delete(self, ids: list[str]) -> None:
        self.connection.delete("bench", ids=ids)

    def finish(self) -> None:
        self.connection.flush("bench")
        self.connection.load_collection("bench")

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        found = self.connection.search("bench", data=[query], limit=k, anns_field="vector",
                                       filter="" if below is None else f"part < {below}",
                                       search_params={"metric_type": "COSINE", "params": {"ef": self.setting}})
        return [hit["id"] for hit in found[0]]

    def close(self) -> None:
        from milvus_lite.server_manager import server_manager_instance

        self.connection.close()
        server_manager_instance.release_server(str(self.folder / "bench.db"))


class Qdrant(Contender):
    """Local mode, which is exact; its ids must be numbers or UUIDs."""

    name, modules, packages = "qdrant-local", ("qdrant_client",), ("qdrant-client",)
    durable = "committed and synced (SQLite), record by record"

    def open(self) -> None:
        from qdrant_client import QdrantClient, models

        # The check would refuse searches, which are done in memory, to any thread but the one that opened it.
        self.connection, self.models = QdrantClient(path=str(self.folder), force_disable_check_same_thread=True), models

    def create(self) -> None:
        self.open()
        self.connection.create_collection("bench", vectors_config=self.models.VectorParams(
            size=self.dim, distance=self.models.Distance.COSINE))

    def number(self, name: str) -> str:
        """The id as a UUID."""
        return str(UUID(int=row_of(name) + 1))

    def insert(self, chunk: Chunk) -> None:
        self.connection.upsert("bench", self.models.Batch(ids=[self.number(name) for name in chunk.ids],
                                                          vectors=chunk.values.tolist(), payloads=chunk.metadata))

    def delete(self, ids: list[str]) -> None:
        self.connection.delete("bench", self.models.PointIdsList(points=[self.number(name) for name in ids]))

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        only = None if below is None else self.models.Filter(must=[
            self.models.FieldCondition(key="part", range=self.models.Range(lt=below))])
        found = self.connection.query_points("bench", query=query, limit=k, with_payload=False, query_filter=only)
        return [identity(UUID(point.id).int - 1) for point in found.points]

    def close(self) -> None:
        self.connection.close()


class Txtai(Contender):
    """content=True with vectors from outside, faiss as it chooses (flat up to 5,000 records, then IVF); a filter is SQL
    over the nearest candidates, so its settings are nprobe and the number of candidates."""

    name, modules, packages, threads = "txtai", ("txtai",), ("txtai", "faiss-cpu"), False
    durable = "once it is saved, here at the end"
    setting = (None, 10)

    def __init__(self, folder: Path, dim: int, n: int) -> None:
        super().__init__(folder, dim, n)
        probes = [2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
        self.ladders = [[[nprobe, 10] for nprobe in probes]]
        self.filtered = [[[nprobe, candidates] for nprobe in probes]
                         for candidates in (250, 1000, 4000, 16000) if candidates < 4 * n]
        self.book: dict[str, Vectors] = {}      # text to vector; txtai asks for the vectors of texts
        self.later: dict[str, Vectors] = {}

    def config(self) -> dict[str, Any]:
        import numpy as np

        def transform(texts: list[str]) -> Vectors:
            return np.stack([self.book[text] if text in self.book else self.later[text] for text in texts])

        return {"method": "external", "transform": transform, "content": True}

    def create(self) -> None:
        from txtai import Embeddings

        self.embeddings = Embeddings(self.config())

    def open(self) -> None:
        from txtai import Embeddings

        self.embeddings = Embeddings()
        self.embeddings.load(str(self.folder), config=self.config())

    def documents(self, chunks: Iterator[Chunk]) -> Iterator[tuple[str, dict[str, Any], None]]:
        """What txtai reads; it embeds in batches that may reach back into the chunk before."""
        for chunk in chunks:
            self.later, self.book = self.book, dict(zip(chunk.ids, chunk.values, strict=True))
            for name, metadata in zip(chunk.ids, chunk.metadata, strict=True):
                yield name, {"text": name, **metadata}, None

    def load(self, chunks: Iterator[Chunk]) -> None:
        self.embeddings.index(self.documents(chunks))
        self.embeddings.save(str(self.folder))

    def update(self, chunk: Chunk) -> None:
        self.embeddings.upsert(self.documents(iter([chunk])))
        self.embeddings.save(str(self.folder))

    def delete(self, ids: list[str]) -> None:
        self.embeddings.delete(ids)
        self.embeddings.save(str(self.folder))

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        nprobe, candidates = self.setting
        if nprobe:
            self.embeddings.config["faiss"] = {"nprobe": nprobe}
        self.book = {"query": query}
        where = "" if below is None else f" AND part < {below}"
        found = self.embeddings.search(f"SELECT id, score FROM txtai WHERE similar('query', {candidates}){where}", k)
        return [one["id"] for one in found]

    def close(self) -> None:
        self.embeddings.close()


class SqliteVec(Contender):
    """A vec0 table, which is exact, with metadata columns; tags as JSON in an auxiliary column."""

    name, modules, packages = "sqlite-vec", ("sqlite_vec",), ("sqlite-vec",)
    durable = "committed and synced (SQLite, rollback journal, synchronous=FULL)"

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.db = self.connect()

    def connect(self) -> Any:
        """A connection; each thread has its own. Python's own sqlite3 cannot always load extensions."""
        import sqlite_vec

        try:
            import pysqlite3 as sqlite3
        except ImportError:
            import sqlite3  # type: ignore[no-redef]
        db = sqlite3.connect(self.folder / "bench.db", check_same_thread=False)
        db.enable_load_extension(True)
        sqlite_vec.load(db)
        return db

    def create(self) -> None:
        self.open()
        self.db.execute(f"CREATE VIRTUAL TABLE bench USING vec0(id TEXT PRIMARY KEY, vector FLOAT[{self.dim}] "
                        "distance_metric=cosine, year INTEGER, lang TEXT, part INTEGER, +tags TEXT)")

    def insert(self, chunk: Chunk) -> None:
        with self.db:
            self.db.executemany("INSERT INTO bench(id, vector, year, lang, part, tags) VALUES (?, ?, ?, ?, ?, ?)", (
                (name, values.tobytes(), one["year"], one["lang"], one["part"], json.dumps(one["tags"]))
                for name, values, one in zip(chunk.ids, chunk.values, chunk.metadata, strict=True)))

    def update(self, chunk: Chunk) -> None:
        with self.db:
            self.db.executemany("UPDATE bench SET vector = ? WHERE id = ?", (
                (values.tobytes(), name) for name, values in zip(chunk.ids, chunk.values, strict=True)))

    def delete(self, ids: list[str]) -> None:
        with self.db:
            self.db.executemany("DELETE FROM bench WHERE id = ?", ((name,) for name in ids))

    def client(self) -> Any:
        db = self.connect()
        return lambda query, k, below: self.run(db, query, k, below)

    def search(self, query: Vectors, k: int, below: int | None) -> list[str]:
        return self.run(self.db, query, k, below)

    def run(self, db: Any, query: Vectors, k: int, below: int | None) -> list[str]:
        """One search on a connection."""
        where, values = ("", []) if below is None else (" AND part < ?", [below])
        found = db.execute(f"SELECT id, distance FROM bench WHERE vector MATCH ? AND k = ?{where}",
                           [query.tobytes(), k, *values])
        return [name for name, _ in found]

    def close(self) -> None:
        self.db.close()


CONTENDERS: tuple[type[Contender], ...] = (Madang, Chroma, Lance, LancePQ, Milvus, Qdrant, Txtai, SqliteVec)
