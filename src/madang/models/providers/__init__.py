"""Families of models, each registered as an entry point in `madang.providers`."""
