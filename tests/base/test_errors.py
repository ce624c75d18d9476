"""Errors: what they print, what a program can catch."""

from __future__ import annotations

import pytest

from madang.base import errors
from madang.base.errors import MadangError, MissingDependency, NotFound, ServiceError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MadangError)]


def make(kind: type[MadangError], message: str, remedy: str | None = None) -> MadangError:
    if kind is ServiceError:
        return ServiceError(message, kind="server", remedy=remedy)
    return kind(message, remedy=remedy)


PLAIN = [kind for kind in KINDS if kind is not MissingDependency]


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
def test_an_error_reads_as_message_and_remedy(kind: type[MadangError]) -> None:
    assert str(make(kind, "top_k must be at least 1, not 0.")) == "top_k must be at least 1, not 0."
    error = make(kind, "no collection is called 'a'.", "Known: b.")
    assert str(error) == "no collection is called 'a'. Known: b."
    assert (error.message, error.remedy) == ("no collection is called 'a'.", "Known: b.")


def test_codes_are_unique_and_fit_for_machines() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes) > 5
    assert all(code == code.lower() and code.replace("_", "").isalpha() for code in codes)


@pytest.mark.parametrize(("name", "builtin"), [
    ("InvalidInput", ValueError), ("NotFound", KeyError), ("NotFound", LookupError), ("Conflict", ValueError),
    ("Locked", RuntimeError), ("Corrupt", RuntimeError), ("Unreadable", ValueError),
    ("ServiceError", RuntimeError), ("MissingDependency", ImportError),
])
def test_an_error_is_the_builtin_one_expects(name: str, builtin: type[Exception]) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, builtin)
    assert issubclass(kind, MadangError)


def test_every_error_is_also_a_builtin_one() -> None:
    assert all(len(kind.__mro__) > len(MadangError.__mro__) + 1 for kind in KINDS if kind is not MadangError)


def test_a_missing_key_does_not_print_as_a_repr() -> None:
    assert str(NotFound("no record 'a'.")) == "no record 'a'."   # KeyError would add quotes


def test_a_missing_library_says_what_to_type() -> None:
    error = MissingDependency("Korean morphology", extra="ko")
    assert str(error) == ('Korean morphology needs a library that is not installed. Install it with: '
                          'pip install "madang[ko]"')
    assert error.extra == "ko"


def test_a_service_error_says_how_it_failed() -> None:
    error = ServiceError("busy.", kind="rate_limit", status=429, retryable=True)
    assert (error.kind, error.status, error.retryable) == ("rate_limit", 429, True)
    assert error.code == "service_error"
    assert ServiceError("gone.", kind="unreachable").retryable is False
