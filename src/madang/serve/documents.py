"""Documents of an index with a schema, as records of a collection, and back.

The fields that are searched by words become the record's document, one after another; where each begins and ends stands
in its metadata under `_SPANS`. The dense and the sparse field are its vectors, or embedded from a text. All other
fields are metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from madang.base.errors import InvalidInput
from madang.base.records import Record, SparseVector
from madang.models.resolve import Models
from madang.serve.embedding import Embedding
from madang.serve.pinecone_inference import understood
from madang.serve.pinecone_records import hidden
from madang.store import Collection
from madang.wire import pinecone_documents as wire
from madang.wire.pinecone import Malformed, _numbers, _object
from madang.wire.pinecone_records import sparse_of

FIELDS = "pinecone.fields"        # attribute: the fields of the schema, as they were given
_SPANS = "_spans"                 # of the texts: "title:0:12"
_BETWEEN = "\n\n"                 # two texts: no word and no sentence goes across


class Documents:
    """The documents of one index. Raises `InvalidInput` for an index without a schema."""

    def __init__(self, collection: Collection, models: Models) -> None:
        fields = collection.attributes.get(FIELDS)
        if fields is None:
            raise InvalidInput(f"index {collection.name!r} has no schema of documents.",
                               remedy="Make one with create_index(schema=...), or use vectors or records.")
        self.collection, self.schema = collection, understood(wire.decode_schema, fields)
        self.embed, self.sparse_embed = (
            None if each is None else Embedding(collection, models, each[1])
            for each in (self.schema.embed, self.schema.sparse_embed))

    def records(self, documents: Mapping[str, Mapping[str, Any]],
                before: Mapping[str, Record] | None = None) -> tuple[list[Record], int | None]:
        """Records to write, and how many tokens were embedded for them, None where nothing is. What `before` holds of
        them, and is to be changed, keeps the vectors of texts that stay."""
        before = before or {}
        made = [self._record(identity, fields, identity in before) for identity, fields in documents.items()]
        return made, self._embedded(made, list(documents.values()), before)

    def _record(self, identity: str, fields: Mapping[str, Any], there: bool) -> Record:
        schema, where = self.schema, f"document {identity!r:.60}"
        if _SPANS in fields:
            raise InvalidInput(f"{where}: {_SPANS!r} is no name for a field.")
        if not schema.searched & fields.keys() and not (there and schema.unstored):
            raise InvalidInput(f"{where} has none of the fields that are searched.",
                               remedy=f"They are: {', '.join(sorted(schema.searched))}.")
        values = hidden(self.collection)
        if schema.dense is not None:
            if schema.dense not in fields:
                raise InvalidInput(f"{where} lacks field {schema.dense!r:.60}, a dense vector.")
            values = np.array(understood(_numbers, fields[schema.dense], f"{where}: {schema.dense:.60}"), np.float32)
            if self.collection.metric == "cosine" and not values.any():
                raise InvalidInput(f"{where}: {schema.dense:.60} is all zero, which has no direction.")
        sparse = None
        if schema.sparse is not None and schema.sparse in fields:
            sparse = SparseVector(*understood(_sparse, fields[schema.sparse], f"{where}: {schema.sparse:.60}"))
        document, spans = self._joined(fields, where)
        rest = {name: value for name, value in fields.items() if name not in schema.searched}
        return Record(identity, values, sparse, {**rest, **({_SPANS: spans} if spans else {})}, document)

    def _joined(self, fields: Mapping[str, Any], where: str) -> tuple[str | None, list[str]]:
        """The texts as one, and where each of them is."""
        document, spans = "", list[str]()
        for name in (*self.schema.texts, *self.schema.unstored):
            if name in fields and not isinstance(fields[name], str):
                raise InvalidInput(f"{where}: {name!r:.60} must be text, not {fields[name]!r:.80}.")
        for name in self.schema.texts:
            if name in fields:
                document += _BETWEEN if document else ""
                spans.append(f"{name}:{len(document)}:{len(document) + len(fields[name])}")
                document += fields[name]
        return document or None, spans

    def _embedded(self, made: Sequence[Record], documents: Sequence[Mapping[str, Any]],
                  before: Mapping[str, Record]) -> int | None:
        """Put the vectors of embedded texts into the records."""
        spent: int | None = None
        if self.embed is not None and self.schema.embed is not None:
            name, new = self.schema.embed[0], []
            for record, fields in zip(made, documents, strict=True):
                old = before.get(record.id)
                if old is not None and self._stays(name, fields, old):
                    record.values = old.values
                elif not fields.get(name):
                    raise InvalidInput(f"document {record.id!r:.60} has no text in field {name!r:.60}.",
                                       remedy="The index embeds this field: it must be there.")
                else:
                    new.append((record, fields[name]))
            if new:
                vectors, spent = self.embed.passages([text for _, text in new])
                for (record, _), vector in zip(new, vectors, strict=True):
                    record.values = vector
        if self.sparse_embed is not None and self.schema.sparse_embed is not None:
            name, new = self.schema.sparse_embed[0], []
            for record, fields in zip(made, documents, strict=True):
                old = before.get(record.id)
                if old is not None and self._stays(name, fields, old):
                    record.sparse = old.sparse
                elif name in fields:
                    new.append((record, fields[name]))
            if new:
                terms, tokens = self.sparse_embed.terms([text for _, text in new], "passage")
                for (record, _), sparse in zip(new, terms, strict=True):
                    record.sparse = sparse
                spent = (spent or 0) + tokens
        return spent

    def _stays(self, name: str, fields: Mapping[str, Any], old: Record) -> bool:
        """Whether a text that is embedded is what it was; one that is not kept stays unless it is given anew."""
        if name in self.schema.unstored:
            return name not in fields
        return name in fields and self.texts(old.metadata, old.document).get(name) == fields[name]

    def texts(self, metadata: Mapping[str, Any], document: str | None) -> dict[str, str]:
        """The texts of a record, by field."""
        found = {}
        for span in metadata.get(_SPANS, ()):
            name, start, end = span.rsplit(":", 2)
            found[name] = (document or "")[int(start):int(end)]
        return found

    def fields(self, record: Record, wanted: frozenset[str] | None = None) -> dict[str, Any]:
        """The document's fields, all or those wanted. What is embedded gives no vector back."""
        schema = self.schema
        found: dict[str, Any] = {name: value for name, value in record.metadata.items() if name != _SPANS}
        found |= self.texts(record.metadata, record.document)
        if schema.dense is not None and record.values is not None:
            found[schema.dense] = record.values.tolist()
        if schema.sparse is not None and record.sparse is not None:
            found[schema.sparse] = {"indices": list(record.sparse.indices), "values": list(record.sparse.values)}
        return found if wanted is None else {name: value for name, value in found.items() if name in wanted}

    def check_named(self, wanted: frozenset[str] | None) -> None:
        """Refuse fields whose text is not kept."""
        lost = sorted((wanted or frozenset()) & self.schema.unstored)
        if lost:
            raise InvalidInput(f"include_fields: the text of {lost[0]!r:.60} is not stored.", remedy="Leave it out.")


def _sparse(value: object, what: str) -> tuple[Sequence[int], Sequence[float]]:
    parts = _object(value, what)
    indices, values = sparse_of(parts.get("indices"), parts.get("values"), what)
    if not indices:
        raise Malformed(f"{what} holds no index")
    return indices, values
