"""Nearest k: the index kernel and what is built on it. Usable by itself: `from madang.index import HNSW`."""

from madang.index.audit import Audit, Bucket
from madang.index.flat import Flat
from madang.index.hnsw import HNSW
from madang.index.ivf import IVF
from madang.index.lexical import Lexical
from madang.index.nsw import NSW
from madang.index.protocol import Index, Metric
from madang.index.sparse import Sparse

__all__ = ["HNSW", "IVF", "NSW", "Audit", "Bucket", "Flat", "Index", "Lexical", "Metric", "Sparse"]
