"""Suites that ship with the package, for whoever implements one of its protocols. Nobody inside imports them."""
