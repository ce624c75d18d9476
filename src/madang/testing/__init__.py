"""Suites that ship with Madang, for whoever writes a back-end: what each implementation must agree on."""
