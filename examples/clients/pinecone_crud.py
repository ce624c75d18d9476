"""Pinecone's quickstart: an index, records, queries with filters, changes. The client is unmodified."""

from pinecone import Pinecone, ServerlessSpec

pc = Pinecone()                                  # PINECONE_API_KEY and PINECONE_CONTROLLER_HOST say where

index_name = "quickstart"
if not pc.has_index(index_name):
    pc.create_index(name=index_name, dimension=4, metric="cosine", spec=ServerlessSpec(cloud="aws", region="us-east-1"),
                    tags={"environment": "development"})
while not pc.describe_index(index_name).status["ready"]:
    pass
index = pc.Index(index_name)

# Create
index.upsert(vectors=[
    {"id": "vec1", "values": [0.9, 0.1, 0.1, 0.0], "metadata": {"genre": "drama", "year": 2020}},
    {"id": "vec2", "values": [0.1, 0.9, 0.2, 0.1], "metadata": {"genre": "comedy", "year": 2021}},
    {"id": "vec3", "values": [0.8, 0.2, 0.0, 0.1], "metadata": {"genre": "drama", "year": 2022, "tags": ["new", "long"]}},
], namespace="films")
print(index.describe_index_stats())

# Read
results = index.query(namespace="films", vector=[1.0, 0.0, 0.0, 0.0], top_k=2, include_metadata=True,
                      filter={"genre": {"$eq": "drama"}, "year": {"$gte": 2020}})
print([(match.id, round(match.score, 3)) for match in results.matches])
assert [match.id for match in results.matches] == ["vec1", "vec3"]
assert index.fetch(ids=["vec3"], namespace="films").vectors["vec3"].metadata["tags"] == ["new", "long"]
assert [identity for page in index.list(prefix="vec", namespace="films") for identity in page] == ["vec1", "vec2", "vec3"]

# Update
index.update(id="vec2", set_metadata={"genre": "drama"}, namespace="films")
found = index.query(namespace="films", id="vec2", top_k=10, filter={"genre": "drama"})
assert len(found.matches) == 3

# Delete
index.delete(ids=["vec1"], namespace="films")
index.delete(filter={"year": {"$lt": 2022}}, namespace="films")
assert index.describe_index_stats().namespaces["films"].vector_count == 1
pc.delete_index(index_name)
assert index_name not in pc.list_indexes().names()
print("created, read, updated and deleted")
