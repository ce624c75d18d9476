"""Where things are kept: collections in a workspace directory, SQLite the truth, everything else derived."""

from madang.store.collection import Collection
from madang.store.database import Database
from madang.store.fusion import Fusion
from madang.store.protocol import CollectionProtocol, CollectionStats, IdPage

__all__ = ["Collection", "CollectionProtocol", "CollectionStats", "Database", "Fusion", "IdPage"]
