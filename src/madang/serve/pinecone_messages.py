"""The messages of Pinecone's gRPC data plane, by name and number as the protocol gives them.

Their JSON form is what the REST protocol sends, so that one set of handlers serves both. Numbers and names are those of
`VectorService` in the version 2025-10; fields of later versions are passed over, as protobuf does with what it does not
know. Made when this module is imported, from a table: there is no generated code.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {"string": _Field.TYPE_STRING, "bool": _Field.TYPE_BOOL, "float": _Field.TYPE_FLOAT,
          "uint32": _Field.TYPE_UINT32, "int32": _Field.TYPE_INT32, "uint64": _Field.TYPE_UINT64}
# Each message: its fields as "name number type", with * for a list, ? for one that may be absent, and -> for a map from
# strings.
_MESSAGES = {
    "SparseValues": "indices 1 uint32*, values 2 float*",
    "Vector": "id 1 string, values 2 float*, sparse_values 4 SparseValues, metadata 3 Struct",
    "ScoredVector": "id 1 string, score 2 float, values 3 float*, sparse_values 5 SparseValues, metadata 4 Struct",
    "Usage": "read_units 1 uint32?",
    "Pagination": "next 1 string",
    "UpsertRequest": "vectors 1 Vector*, namespace 2 string",
    "UpsertResponse": "upserted_count 1 uint32",
    "DeleteRequest": "ids 1 string*, delete_all 2 bool, namespace 3 string, filter 4 Struct",
    "DeleteResponse": "",
    "FetchRequest": "ids 1 string*, namespace 2 string",
    "FetchResponse": "vectors 1 ->Vector, namespace 2 string, usage 3 Usage",
    "FetchByMetadataRequest": "namespace 1 string, filter 2 Struct, limit 3 uint32?, pagination_token 4 string?",
    "FetchByMetadataResponse": "vectors 1 ->Vector, namespace 2 string, usage 3 Usage, pagination 4 Pagination",
    "ListRequest": "prefix 1 string?, limit 2 uint32?, pagination_token 3 string?, namespace 4 string",
    "ListItem": "id 1 string",
    "ListResponse": "vectors 1 ListItem*, pagination 2 Pagination, namespace 3 string, usage 4 Usage",
    "QueryRequest": "namespace 1 string, top_k 2 uint32, filter 3 Struct, include_values 4 bool, "
                    "include_metadata 5 bool, vector 7 float*, sparse_vector 9 SparseValues, id 8 string",
    "QueryResponse": "matches 2 ScoredVector*, namespace 3 string, usage 4 Usage",
    "UpdateRequest": "id 1 string, values 2 float*, sparse_values 5 SparseValues, set_metadata 3 Struct, "
                     "namespace 4 string, filter 6 Struct, dry_run 7 bool?",
    "UpdateResponse": "matched_records 1 int32?",
    "DescribeIndexStatsRequest": "filter 1 Struct",
    "NamespaceSummary": "vector_count 1 uint32",
    "DescribeIndexStatsResponse": "namespaces 1 ->NamespaceSummary, dimension 2 uint32?, index_fullness 3 float, "
                                  "total_vector_count 4 uint32, metric 5 string?, vector_type 6 string?",
    "MetadataFieldProperties": "filterable 1 bool",
    "MetadataSchema": "fields 1 ->MetadataFieldProperties",
    "IndexedFields": "fields 1 string*",
    "NamespaceDescription": "name 1 string, record_count 2 uint64, schema 3 MetadataSchema, "
                            "indexed_fields 4 IndexedFields",
    "ListNamespacesRequest": "pagination_token 1 string?, limit 2 uint32?, prefix 3 string?",
    "ListNamespacesResponse": "namespaces 1 NamespaceDescription*, pagination 2 Pagination, total_count 3 int32",
    "DescribeNamespaceRequest": "namespace 1 string",
    "CreateNamespaceRequest": "name 1 string, schema 2 MetadataSchema",
    "DeleteNamespaceRequest": "namespace 1 string",
}


def _typed(field: Any, kind: str) -> None:
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type = _Field.TYPE_MESSAGE
        field.type_name = ".google.protobuf.Struct" if kind == "Struct" else f".{kind}"


def _add_field(message: Any, name: str, number: str, kind: str) -> None:
    many = kind.endswith("*") or kind.startswith("->")
    label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    if kind.startswith("->"):
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
        _typed(entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL), kind[2:])
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{message.name}.{entry.name}"
        return
    _typed(field, kind.rstrip("*?"))
    if kind.endswith("?"):
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")


def _made() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="madang/vector_service.proto", syntax="proto3",
                                              dependency=["google/protobuf/struct.proto"])
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _add_field(message, *field.split())
    pool = descriptor_pool.DescriptorPool()         # of its own: a client in this process has the same names
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in _MESSAGES}


MESSAGES = _made()
