"""pgvector's type on the wire: dim as uint16, two unused bytes, then float32, all big-endian; as text "[1,2]".

Written out here, since the type's binary form is this short and vectors then come back bit for bit as arrays.
Source: vector_recv and vector_send in https://github.com/pgvector/pgvector/blob/master/src/vector.c.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.types import TypeInfo


class _VectorDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: NDArray[np.float32]) -> Buffer:
        return struct.pack(">HH", len(obj), 0) + np.asarray(obj, dtype=">f4").tobytes()


class _VectorLoader(Loader):
    format = Format.BINARY

    def load(self, data: Buffer) -> NDArray[np.float32]:
        return np.frombuffer(bytes(data), dtype=">f4", offset=4).astype(np.float32)


def register_vector(connection: Connection[Any]) -> None:
    """Let float32 arrays go to and come from columns of the type, once the database has it."""
    if connection.adapters.types.get("vector") is not None:
        return
    info = TypeInfo.fetch(connection, "vector")
    if info is not None:
        info.register(connection)
        connection.adapters.register_dumper(np.ndarray, type("VectorDumper", (_VectorDumper,), {"oid": info.oid}))
        connection.adapters.register_loader(info.oid, _VectorLoader)
