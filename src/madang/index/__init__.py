"""Nearest k: the index kernel and what is built on it. Usable by itself: `from madang.index import Flat`."""

from madang.index.flat import Flat
from madang.index.lexical import Lexical
from madang.index.protocol import Index, Metric

__all__ = ["Flat", "Index", "Lexical", "Metric"]
