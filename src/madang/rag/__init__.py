"""Retrieval-augmented generation: load, chunk, ingest, retrieve, cite, answer."""
