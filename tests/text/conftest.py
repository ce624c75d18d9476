"""The analyzers under test. Kiwi must be there in CI; elsewhere its tests are skipped without it."""

from __future__ import annotations

import os

import pytest

from madang.text.analyzer import Analyzer
from madang.text.korean import Bigrams, Kiwi, has_kiwi

_BIGRAM = Analyzer(Bigrams())
_KIWI = Analyzer(Kiwi()) if has_kiwi() else None  # one for all tests: it takes a second to load


def _kiwi() -> Analyzer:
    if _KIWI is None:
        missing = 'kiwipiepy is not installed: pip install "madang[ko]"'
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return _KIWI


@pytest.fixture
def kiwi() -> Analyzer:
    return _kiwi()


@pytest.fixture
def bigram() -> Analyzer:
    return _BIGRAM


@pytest.fixture(params=["bigram", "kiwi"])
def analyzer(request: pytest.FixtureRequest) -> Analyzer:
    return _BIGRAM if request.param == "bigram" else _kiwi()
