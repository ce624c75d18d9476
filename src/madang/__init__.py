"""Madang (마당): the LLM-application stack on one machine.

>>> import madang
>>> ws = madang.open("./courtyard")          # doctest: +SKIP
>>> ws.ingest("handbook/")                   # doctest: +SKIP
>>> print(ws.ask("연차는 며칠인가요?").text)     # doctest: +SKIP

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from madang.base.errors import MadangError
    from madang.base.records import Record, SparseVector
    from madang.index.flat import Flat
    from madang.index.hnsw import HNSW
    from madang.index.ivf import IVF
    from madang.index.nsw import NSW
    from madang.store.fusion import Fusion
    from madang.workspace.workspace import Workspace, open  # noqa: A004

__all__ = ["HNSW", "IVF", "NSW", "Flat", "Fusion", "MadangError", "Record", "SparseVector", "Workspace",
           "__version__", "open"]

try:
    __version__ = version("madang")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

_HOMES = {
    "Flat": "madang.index.flat",
    "HNSW": "madang.index.hnsw",
    "NSW": "madang.index.nsw",
    "IVF": "madang.index.ivf",
    "Fusion": "madang.store.fusion",
    "MadangError": "madang.base.errors",
    "Record": "madang.base.records",
    "SparseVector": "madang.base.records",
    "Workspace": "madang.workspace.workspace",
    "open": "madang.workspace.workspace",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use (PEP 562), so that `import madang` costs milliseconds."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'madang' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
