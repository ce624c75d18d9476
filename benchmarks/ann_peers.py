"""The contenders of benchmarks/ann.py, one small class each, used as their documentation says.

Build parameters are the ones their makers recommend or the usual ones for some 100,000 vectors; nothing was tuned for
or against anyone. Where a cosine is wanted, the harness hands out unit vectors and everybody but us compares by inner
product (or distance, which orders unit vectors alike), which spares them the normalisation. A contender whose
recall depends on two parameters has several `ladders`; the fastest that reaches the target counts.

Everybody gets the same number of threads for building and for batches. ScaNN works without TensorFlow since 1.4.
Intel's LVQ ends the process on other makers' processors, so it is asked for on Intel's only. NGT's wheel brings no
means to build its quantized graphs, so they are not here; its ONNG takes half an hour for 100,000 vectors, so it runs
only when it is named.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Setting = Any       # of one search parameter, or of two together
Ladder = list[Setting]


def steps(first: int, last: int, ratio: float = 1.08) -> list[int]:
    """Whole numbers from first to last, each about `ratio` times the one before and at least 1 (2 above 10) more."""
    found = [first]
    while found[-1] < last:
        found.append(min(last, max(found[-1] + (2 if found[-1] >= 10 else 1), round(found[-1] * ratio))))
    return found


EF = steps(10, 1500)


def lists(n: int) -> int:
    """Inverted lists for n vectors: 4 sqrt(n), as faiss recommends."""
    return max(1, round(4 * n ** 0.5))


class Contender:
    """One index. Settings of a ladder cost more and find more, step by step."""

    name: ClassVar[str]
    module: ClassVar[str]
    install: ClassVar[str]
    ours: ClassVar[bool] = False
    on_request: ClassVar[bool] = False      # only when it is named
    ladders: list[Ladder] = [EF]        # noqa: RUF012  (some set their own when they know n)
    index: Any = None
    threads = 1

    def missing(self) -> str | None:
        """How to install it, or None when it is here."""
        return None if find_spec(self.module) else self.install

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        """Index base (n, d), of unit length for "cosine"; to be called once. Raises whatever the library raises."""
        raise NotImplementedError

    def set(self, setting: Setting) -> None:
        """Search with this setting from now on."""
        raise NotImplementedError

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        """Rows for each query (1, d), one call each."""
        raise NotImplementedError

    def batch(self, queries: Vectors, k: int) -> Any:
        """Rows (q, k) for queries (q, d) in one call."""
        raise NotImplementedError

    def size_bytes(self) -> int | None:
        """Of what a search needs, if the library tells."""
        return None


class Madang(Contender):
    """Our HNSW as it is by default: it chooses codes of 4 or 8 bits by the data."""

    name, module, install, ours = "madang", "madang", "HNSW is not in this version of madang.index", True
    options: ClassVar[dict[str, Any]] = {}

    def missing(self) -> str | None:
        import madang.index

        return None if hasattr(madang.index, "HNSW") else self.install

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        from madang.index import HNSW

        self.threads = threads
        self.index = HNSW(base.shape[1], metric, m=16, ef_construction=200, seed=0, **self.options)
        self.index.add(base, threads=threads)

    def set(self, setting: Setting) -> None:
        self.how = {"ef_search": setting}

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        search, how = self.index.search, self.how
        return [search(query, k, **how)[0] for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.index.search(queries, k, **self.how, threads=self.threads)[0]

    def size_bytes(self) -> int | None:
        stats = self.index.stats()
        return stats.get("search_bytes", stats.get("size_bytes"))


class MadangInt8(Madang):
    """With 8 bits whatever the data."""

    name = "madang-int8"
    options: ClassVar[dict[str, Any]] = {"quantization": "int8"}


class MadangIVF(Madang):
    """Our inverted lists."""

    name, install = "madang-ivf", "IVF is not in this version of madang.index"

    def missing(self) -> str | None:
        import madang.index

        return None if hasattr(madang.index, "IVF") else self.install

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        from madang.index import IVF

        self.threads = threads
        self.ladders = [steps(1, lists(len(base)))]
        self.index = IVF(base.shape[1], metric, nlist=lists(len(base)))
        self.index.add(base, threads=threads)

    def set(self, setting: Setting) -> None:
        self.how = {"nprobe": setting}


class Hnswlib(Contender):
    """M 16, ef_construction 200: the measure of all."""

    name, module, install = "hnswlib", "hnswlib", "pip install hnswlib"

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip" if metric == "cosine" else "l2", base.shape[1])
        self.index.init_index(len(base), M=16, ef_construction=200, random_seed=0)
        self.index.set_num_threads(threads)
        self.index.add_items(base)

    def set(self, setting: Setting) -> None:
        self.index.set_ef(setting)

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        search = self.index.knn_query
        return [search(query, k)[0] for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.index.knn_query(queries, k)[0]

    def size_bytes(self) -> int | None:
        return int(self.index.index_file_size())


class Faiss(Contender):
    """What faiss's indexes share."""

    module, install = "faiss", "pip install faiss-cpu"

    def metric(self, metric: str, threads: int) -> int:
        """faiss's number for a metric; its threads are the process's."""
        import faiss

        faiss.omp_set_num_threads(threads)
        return faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        search = self.index.search
        return [search(query, k)[1] for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.index.search(queries, k)[1]

    def size_bytes(self) -> int | None:
        import faiss

        return int(faiss.serialize_index(self.index).nbytes)


class FaissHNSW(Faiss):
    """float32, M 16, efConstruction 200."""

    name, m = "faiss-hnsw", 16

    def make(self, dim: int, metric: int) -> Any:
        import faiss

        return faiss.IndexHNSWFlat(dim, self.m, metric)

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        self.index = self.make(base.shape[1], self.metric(metric, threads))
        self.index.hnsw.efConstruction = 200
        self.index.train(base)
        self.index.add(base)

    def set(self, setting: Setting) -> None:
        self.index.hnsw.efSearch = setting


class FaissHNSW32(FaissHNSW):
    """The same with M 32, faiss's default."""

    name, m = "faiss-hnsw-m32", 32


class FaissHNSWSQ8(FaissHNSW):
    """One byte a dimension, no re-ranking."""

    name = "faiss-hnsw-sq8"

    def make(self, dim: int, metric: int) -> Any:
        import faiss

        return faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, self.m, metric)


class FaissIVF(Faiss):
    """float32 in 4 sqrt(n) lists."""

    name = "faiss-ivf"

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        import faiss

        self.ladders = [steps(1, lists(len(base)))]
        self.index = faiss.index_factory(base.shape[1], f"IVF{lists(len(base))},Flat", self.metric(metric, threads))
        self.index.train(base)
        self.index.add(base)

    def set(self, setting: Setting) -> None:
        self.index.nprobe = setting


class FaissFastScan(Faiss):
    """IVF with 4-bit product quantization of dimension pairs, compared in registers, refined in float32."""

    name = "faiss-ivfpqfs"

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        import faiss

        n, dim = base.shape
        self.ladders = [[(nprobe, factor) for nprobe in steps(1, lists(n))] for factor in (3, 6, 12, 24)]
        self.index = faiss.index_factory(dim, f"IVF{lists(n)},PQ{dim // 2}x4fs,RFlat", self.metric(metric, threads))
        self.index.train(base)
        self.index.add(base)
        self.inner = faiss.downcast_index(self.index.base_index)

    def set(self, setting: Setting) -> None:
        self.inner.nprobe, self.index.k_factor = setting


class Usearch(Contender):
    """float32, connectivity 16, expansion_add 200."""

    name, module, install, dtype = "usearch-f32", "usearch", "pip install usearch", "f32"

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        from usearch.index import Index

        self.threads = threads
        self.index = Index(ndim=base.shape[1], metric="ip" if metric == "cosine" else "l2sq", dtype=self.dtype,
                           connectivity=16, expansion_add=200)
        self.index.add(np.arange(len(base)), base, threads=threads)

    def set(self, setting: Setting) -> None:
        self.index.expansion_search = setting

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        search = self.index.search
        return [search(query[0], k, threads=1).keys for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.index.search(queries, k, threads=self.threads).keys

    def size_bytes(self) -> int | None:
        return int(self.index.serialized_length)


class UsearchF16(Usearch):
    """Half precision."""

    name, dtype = "usearch-f16", "f16"


class UsearchI8(Usearch):
    """One byte a dimension, no re-ranking; meant for unit vectors, so other metrics do not get far."""

    name, dtype = "usearch-i8", "i8"


class ScaNN(Contender):
    """A tree of 2 sqrt(n) leaves, 4-bit anisotropic codes of dimension pairs, re-ordered in float32."""

    name, module, install = "scann", "scann", "pip install scann"

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        from scann.scann_ops.py import scann_ops_pybind

        leaves = max(1, round(2 * len(base) ** 0.5))
        self.ladders = [[(probes, depth) for probes in steps(1, leaves)] for depth in (30, 60, 120, 240)]
        product = metric == "cosine"
        self.index = (
            scann_ops_pybind.builder(base, 10, "dot_product" if product else "squared_l2")
            .set_n_training_threads(threads)
            .tree(num_leaves=leaves, num_leaves_to_search=max(1, leaves // 20), training_sample_size=250_000)
            .score_ah(2, anisotropic_quantization_threshold=0.2 if product else float("nan"))
            .reorder(100).build())
        self.index.set_num_threads(threads)
        self.search_batched = self.index.search_batched_parallel if threads > 1 else self.index.search_batched

    def set(self, setting: Setting) -> None:
        self.probes, self.depth = setting

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        search, depth, probes = self.index.search, self.depth, self.probes
        return [search(query[0], k, depth, probes)[0] for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.search_batched(queries, k, self.depth, self.probes)[0]


class SVS(Contender):
    """Intel's Vamana in half precision: degree 64, window 200, alpha 1.2, by distance for every metric."""

    name, module, install = "svs-f16", "svs", "pip install scalable-vs (Linux on x86-64)"

    def data(self, base: Vectors, folder: Path) -> Any:
        return base.astype(np.float16)

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        import svs

        with tempfile.TemporaryDirectory() as folder:
            how = svs.VamanaBuildParameters(alpha=1.2, graph_max_degree=64, window_size=200)
            self.index = svs.Vamana.build(how, self.data(base, Path(folder)), svs.DistanceType.L2, threads)

    def set(self, setting: Setting) -> None:
        self.index.search_window_size = setting

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        search = self.index.search
        return [search(query, k)[0] for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        return self.index.search(queries, k)[0]


class SVSLVQ(SVS):
    """Locally adaptive quantization: 4 bits a dimension to walk, 8 more to re-rank."""

    name = "svs-lvq4x8"
    bits: tuple[int, ...] = (4, 8)

    def missing(self) -> str | None:
        cpu = Path("/proc/cpuinfo")
        if cpu.exists() and "GenuineIntel" not in cpu.read_text():
            return "LVQ runs on Intel's processors only"
        return super().missing()

    def data(self, base: Vectors, folder: Path) -> Any:
        import svs

        path = folder / "base.fvecs"
        svs.write_vecs(base, str(path))
        return svs.LVQLoader(svs.VectorDataLoader(str(path), svs.DataType.float32), *self.bits, padding=32)


class SVSLVQ8(SVSLVQ):
    """8 bits a dimension."""

    name = "svs-lvq8"
    bits = (8,)


class NGT(Contender):
    """Yahoo Japan's ANNG with its default of 10 edges; searches are widened by epsilon."""

    name, module, install = "ngt-anng", "ngtpy", "pip install ngt (Linux on x86-64)"
    ladders: ClassVar[list[Ladder]] = [[round(0.01 * step - 0.1, 2) for step in range(61)]]
    edges = 10

    def build(self, base: Vectors, metric: str, threads: int) -> None:
        import ngtpy

        self.threads = threads
        self.folder = tempfile.TemporaryDirectory()     # lives as long as the index, which is mapped from it
        path = f"{self.folder.name}/anng"
        ngtpy.create(path, base.shape[1], edge_size_for_creation=self.edges, distance_type="L2")
        made = ngtpy.Index(path, log_disabled=True)
        made.batch_insert(base, num_threads=threads)
        made.save()
        made.close()
        self.index = ngtpy.Index(self.improved(path), read_only=True, log_disabled=True)
        self.results = ngtpy.BatchResults

    def improved(self, path: str) -> str:
        """Where the graph to search lies."""
        return path

    def set(self, setting: Setting) -> None:
        self.epsilon = setting

    def single(self, queries: Sequence[Vectors], k: int) -> list[Any]:
        self.index.set(epsilon=self.epsilon)
        search = self.index.search
        return [search(query[0], k, with_distance=False) for query in queries]

    def batch(self, queries: Vectors, k: int) -> Any:
        self.index.set(epsilon=self.epsilon)
        results = self.results()
        self.index.batch_search(queries, results, k, False)
        return results.get_ids()


class NGTONNG(NGT):
    """ONNG: a graph of 100 edges whose degrees are adjusted (10 out, 120 in), as its paper recommends."""

    name, on_request = "ngt-onng", True
    edges = 100

    def improved(self, path: str) -> str:
        import ngtpy

        optimizer = ngtpy.Optimizer(log_disabled=True)
        optimizer.set(num_of_outgoings=10, num_of_incomings=120)
        optimizer.set_processing_modes(search_parameter_optimization=False, accuracy_table_generation=False)
        optimizer.execute(path, path + "-onng")
        return path + "-onng"


CONTENDERS: tuple[type[Contender], ...] = (
    Madang, MadangInt8, MadangIVF, Hnswlib, FaissHNSW, FaissHNSW32, FaissHNSWSQ8, FaissIVF, FaissFastScan, Usearch, UsearchF16,
    UsearchI8, ScaNN, SVS, SVSLVQ, SVSLVQ8, NGT, NGTONNG)
