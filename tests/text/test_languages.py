from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.text.languages import detect, scripts


@pytest.mark.parametrize(("text", "language"), [
    ("연차는 며칠인가요?", "ko"),
    ("asyncio.gather는 무엇을 하나요?", "ko"),
    ("create_task와 gather의 차이", "ko"),
    ("HTTP/2 서버 푸시 설정 방법", "ko"),
    ("\u1112\u1161\u11ab\u1100\u1173\u11af", "ko"),  # decomposed
    ("How many vacation days do employees get each year?", "en"),
    ("The Korean word 마당 means the courtyard of a house.", "en"),
    ("Où est la bibliothèque ?", "en"),
    ("年次有給休暇は何日ですか", "ja"),
    ("ラーメン", "ja"),
    ("Pythonで文字列を分割する", "ja"),
    ("年假有多少天？", "zh"),
    ("如何使用 asyncio.gather 函数", "zh"),
    ("Сколько дней отпуска?", "und"),
    ("كم يوم", "und"),
    ("", "und"),
    ("123 +-*/ \U0001f600", "und"),
])
def test_detect(text: str, language: str) -> None:
    assert detect(text) == language


@given(st.text(st.characters(exclude_categories=())))
def test_any_text(text: str) -> None:
    assert detect(text) in {"ko", "ja", "zh", "en", "und"}
    shares = scripts(text)
    assert all(share > 0 for share in shares.values())
    assert not shares or sum(shares.values()) == pytest.approx(1)


def test_scripts() -> None:
    assert scripts("ab 가나 123") == {"latin": 0.5, "hangul": 0.5}
    assert scripts("日本のю") == {"han": 0.5, "kana": 0.25, "other": 0.25}
