"""What an update changes: one record by its id, or the metadata of all that a filter matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from madang.base.errors import InvalidInput
from madang.base.records import Filter, Metadata, Record, SparseVector
from madang.store import filters, validate


@dataclass(frozen=True, slots=True)
class Change:
    """An update that was checked: of the record `id`, or of what `filter` matches."""

    id: str | None
    filter: filters.Parsed | None
    values: Any
    sparse: SparseVector | None
    metadata: Metadata

    def of(self, record: Record) -> Record:
        """The record as it is afterwards; keys of metadata that are not named stay."""
        return Record(record.id, record.values if self.values is None else self.values,
                      record.sparse if self.sparse is None else self.sparse, {**record.metadata, **self.metadata},
                      record.document, record.context)


def change(id: str | None, values: Any, set_metadata: Mapping[str, Any] | None, sparse: Any,  # noqa: A002
           filter: Filter | None) -> Change:  # noqa: A002
    """Check an update. Raises `InvalidInput`: neither or both of id and filter, nothing to change, a vector for
    many."""
    if (id is None) == (filter is None):
        raise InvalidInput("update needs exactly one of id and filter.")
    if values is None and sparse is None and set_metadata is None:
        raise InvalidInput(f"update of {'a filter' if id is None else repr(id)} changes nothing.",
                           remedy="Give values, sparse or set_metadata.")
    if filter is not None and (values is not None or sparse is not None):
        raise InvalidInput("update by filter sets metadata only; no two records need the same vector.",
                           remedy="Update records one by one, by id.")
    identity = None if id is None else validate.record_id(id)
    where = "set_metadata" if identity is None else f"record {identity!r:.60}: set_metadata"
    return Change(identity, None if filter is None else filters.parsed(filter), values,
                  validate.sparse(sparse, "sparse"), validate.metadata(set_metadata, where))
