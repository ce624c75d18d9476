"""Which language a text is in, told from its script alone."""

from __future__ import annotations

import re

# Letters only, as the inside of a character class: marks, digits and punctuation belong to no script here.
HANGUL = "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7fb"
HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9d"
LATIN = ("A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff\u2c60-\u2c7f\ua722-\ua7ff"
         "\uff21-\uff3a\uff41-\uff5a")

_SCRIPTS = {name: re.compile(f"[{letters}]") for name, letters in
            {"hangul": HANGUL, "kana": KANA, "han": HAN, "latin": LATIN}.items()}
_LETTER = re.compile(r"[^\W\d_]")

# A Hangul syllable is two to three letters of an alphabet, and Korean names foreign things in Latin script
# ("asyncio.gather는 무엇을 하나요?"), so a fifth of the letters is enough; likewise for Chinese and Japanese.
# An English text that quotes one Korean word stays English.
_SHARE = 0.2
_KANA_SHARE = 0.05  # of kana and Han together: Japanese without any kana is rare


def scripts(text: str) -> dict[str, float]:
    """The share of each script among the letters, if > 0: "hangul", "kana", "han", "latin", "other"."""
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    # Python may not know the newest letters of a script yet.
    counts["other"] = max(0, len(_LETTER.findall(text)) - sum(counts.values()))
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items() if count > 0}


def detect(text: str) -> str:
    """The language of a text: "ko", "ja", "zh", "en" or "und" (undetermined).

    By script: Hangul is "ko", kana is "ja", Han without kana is "zh". Latin script is called "en"; languages
    that share it are not told apart. A text with a meaningful share of Hangul is "ko" whatever surrounds it.
    """
    share = scripts(text)
    if share.get("hangul", 0.0) >= _SHARE:
        return "ko"
    kana = share.get("kana", 0.0)
    if kana + share.get("han", 0.0) >= _SHARE:
        return "ja" if kana >= _KANA_SHARE * (kana + share.get("han", 0.0)) else "zh"
    if share.get("latin", 0.0) > share.get("other", 0.0):
        return "en"
    return "und"
