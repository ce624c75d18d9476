"""The reference is a set the program is compared with."""

from __future__ import annotations

from scripts import reference


def test_the_reference_is_what_the_program_says() -> None:
    assert reference.stale() == [], "run: make docs"
