"""Nodes of LlamaIndex as records, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode, MetadataMode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from madang.base.errors import InvalidInput
from madang.base.records import Match, Record
from madang.integrations.llama_index.filters import REF_DOC
from madang.integrations.metadata import ID, packed, unpacked

_NODE, _KIND = "_node:", "_kind:"      # what has no place in a record, as JSON, and the class that it is of
_TEXT, _RESOURCE = "text", "text_resource"


def as_record(node: BaseNode) -> Record:
    """Its text is the document; without an embedding it is refused."""
    if node.embedding is None:
        raise InvalidInput(f"node {node.node_id!r:.60} has no embedding.", remedy="Embed it before it is added.")
    content = node.model_dump(mode="json")
    content.update(embedding=None, metadata={})
    if isinstance(content.get(_RESOURCE), dict):
        content[_RESOURCE][_TEXT] = None
    if _TEXT in content:
        content[_TEXT] = ""
    metadata = {**packed(node.metadata, f"node {node.node_id!r:.60}: metadata"), ID: node.node_id,
                _NODE: json.dumps(content, ensure_ascii=False), _KIND: node.class_name()}
    if node.ref_doc_id is not None:
        metadata[REF_DOC] = node.ref_doc_id
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return Record(node.node_id, np.asarray(node.embedding, dtype=np.float32), None, metadata, text)


def as_node(record: Record | Match) -> BaseNode:
    """The node; of a record that was written in another way, a text node with its metadata."""
    kept: dict[str, Any] = dict(record.metadata or {})
    kept.pop(REF_DOC, None)
    kind, text = kept.pop(_KIND, "TextNode"), record.document or ""
    content = json.loads(kept.pop(_NODE, None) or json.dumps({"id_": record.id, _TEXT: ""}))
    if isinstance(content.get(_RESOURCE), dict):
        content[_RESOURCE][_TEXT] = text
    if _TEXT in content:
        content[_TEXT] = text
    node = metadata_dict_to_node({"_node_content": json.dumps(content), "_node_type": kind})
    node.metadata = unpacked(kept)
    node.embedding = None if record.values is None else record.values.tolist()
    return node
