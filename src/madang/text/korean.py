"""Korean words to terms: with Kiwi's morphemes if it is installed, with bigrams alone otherwise.

A Korean word (eojeol) hides its noun behind particles (연차는), and a noun begins longer ones (연차별). It
becomes three kinds of terms: content morphemes, which find what particles hide; the surface form without its
particles ("s:..."), which puts the exact noun before its compounds; and bigrams ("2:..."), which find what an
analysis split differently.

Each word is analyzed by itself: the same word then gives the same terms in a question and in a document,
whatever stands around it, and can be remembered.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from madang.text.languages import HANGUL

# Weights beside 1.0 for a morpheme, chosen on the tuning half of tests/text/korean.py.
SURFACE = 0.5
BIGRAM = 0.3
# The same without Kiwi: the word as it stands, what is left without a particle, and bigrams.
ALONE = 0.5
STRIPPED = 0.5
ALONE_BIGRAM = 0.5

_MAX_WORD = 128  # of a "word" longer than this only the beginning goes to Kiwi, whose time grows faster

MAX_LENGTH = 64  # longer terms are cut, which bounds the vocabulary that base64 and the like would fill

has_hangul = re.compile(f"[{HANGUL}]").search
_KOREAN = re.compile(rf"[\d.,]*[{HANGUL}]+")  # with the number before it: 3개월

# Kiwi's tags (Sejong): nouns, pronouns, verb and adjective stems, adverbs, roots.
_CONTENT = frozenset({"NNG", "NNP", "NNB", "NR", "NP", "VV", "VA", "MAG", "XR", "UN"})
_FUNCTIONAL = frozenset({"JKS", "JKC", "JKG", "JKO", "JKB", "JKV", "JKQ", "JX", "JC", "EP", "EF", "EC", "ETN",
                         "ETM", "VCP", "VX", "XSV", "XSA"})

# Particles and the copula, by what they follow: a final consonant, a vowel, anything.
_AFTER_CONSONANT = {
    "으로부터", "이라고", "으로는", "으로도", "이라는", "으로", "이나", "이란", "은", "이", "을", "과",
}
_AFTER_VOWEL = {"로부터", "라고", "로는", "로도", "라는", "로", "나", "란", "는", "가", "를", "와"}
_AFTER_ANY = {
    "에서부터", "에게서", "에서는", "에서의", "에서도", "까지는", "입니다", "인가요", "에서", "에게", "한테",
    "까지", "부터", "보다", "처럼", "마다", "에는", "에도", "이다", "인", "의", "에", "도", "만",
}
_PARTICLES = _AFTER_CONSONANT | _AFTER_VOWEL | _AFTER_ANY
_RIEUL = 8  # the number of the final consonant ㄹ, after which 로 stands as after a vowel


class Token(NamedTuple):
    """A term and where it stands: `text[start:end]`."""

    term: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: the analyzer counts with them as keys
class Analysis:
    """What one word becomes: weighted terms, and its terms in reading order with their places in the word."""

    features: Sequence[tuple[str, float]]
    tokens: Sequence[Token]


class Korean(Protocol):
    """What analyzes Korean words. Called by one thread at a time."""

    @property
    def name(self) -> str:
        """Its part of the analyzer's signature."""
        ...

    def analyze(self, words: Sequence[str]) -> list[Analysis]:
        """The Hangul in each word, with a number right before it; the rest is left to the analyzer."""
        ...


class Bigrams:
    """Korean without a library: the word, the word without what may be a particle, and bigrams."""

    name = "ko:bigram"

    def analyze(self, words: Sequence[str]) -> list[Analysis]:
        return [self._word(word) for word in words]

    def _word(self, word: str) -> Analysis:
        features: list[tuple[str, float]] = []
        tokens: list[Token] = []
        for found in _KOREAN.finditer(word):
            surface = _surface(found[0])
            if found.start() and surface in _PARTICLES:
                continue  # API를
            stem = without_particle(surface)
            bigrams = _bigrams(found[0], found.start())
            features.append(("s:" + surface, ALONE))
            if stem != surface:
                features.append(("s:" + stem, STRIPPED))
            features += [(token.term, ALONE_BIGRAM) for token in bigrams]
            tokens += bigrams or [Token("s:" + surface, found.start(), found.end())]
        return Analysis(features, tokens)


class Kiwi:
    """Korean with Kiwi's morphemes. Loaded when the first Hangul occurs (about a second and 300 MB)."""

    def __init__(self) -> None:
        self.name = kiwi_name()
        self._kiwi: Any = None

    def analyze(self, words: Sequence[str]) -> list[Analysis]:
        if self._kiwi is None:
            import kiwipiepy  # not above: the import alone takes as long as `import madang` may

            # Words come one by one, so the dictionary of terms with spaces (1.3 s, 200 MB) is of no use.
            self._kiwi = kiwipiepy.Kiwi(model_type="cong", load_multi_dict=False)
        # In as many threads as there are cores, in order.
        found = self._kiwi.tokenize([word[:_MAX_WORD] for word in words])
        return [self._word(word, morphemes) for word, morphemes in zip(words, found, strict=True)]

    def _word(self, word: str, found: Sequence[Any]) -> Analysis:
        tokens = [Token(_lemma(m.form, m.tag), m.start, m.start + m.len) for m in found
                  if m.tag.split("-")[0] in _CONTENT and has_hangul(word[m.start:m.start + m.len])]
        features = [(token.term, 1.0) for token in tokens]
        parts = list(_KOREAN.finditer(word, 0, _content_end(word, found)))
        # What Kiwi takes for particles and endings alone must be found nevertheless.
        if not parts and (alone := _KOREAN.fullmatch(word)):
            parts = [alone]
        surfaces = [Token("s:" + _surface(part[0]), part.start(), part.end()) for part in parts]
        features += [(token.term, SURFACE) for token in surfaces]
        features += [(token.term, BIGRAM) for part in parts for token in _bigrams(part[0], part.start())]
        return Analysis(features, tokens or surfaces)


def has_kiwi() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("kiwipiepy", "kiwipiepy_model"))


def kiwi_name() -> str:
    """Kiwi's part of a signature. Needs the installed package's metadata, not the package."""
    version = importlib.metadata.version
    return f"ko:kiwi-{version('kiwipiepy')}+model-{version('kiwipiepy_model')}"


def folded(text: str) -> str:
    """Caseless, NFKC, and at most 64 characters."""
    caseless = text.casefold()
    return (caseless if caseless.isascii() else unicodedata.normalize("NFKC", caseless))[:MAX_LENGTH]


def without_particle(word: str) -> str:
    """The word without the longest particle that may end it, if that fits the syllable before it.

    A guess: 회의 (a meeting) is cut to 회 as if 의 were the particle, so what is left is only ever added.
    """
    for length in (4, 3, 2, 1):
        stem, particle = word[:-length], word[-length:]
        if not stem or not "가" <= stem[-1] <= "힣":
            continue
        final = _final(stem[-1])
        like_vowel = final == 0 or (final == _RIEUL and particle[0] == "로")
        if particle in _AFTER_ANY or particle in (_AFTER_VOWEL if like_vowel else _AFTER_CONSONANT):
            return stem
    return word


def _final(syllable: str) -> int:
    """The number of a syllable's final consonant, 0 for none."""
    return (ord(syllable) - ord("가")) % 28


def particle_after(word: str, consonant: str, vowel: str) -> str:
    """The form of a particle that follows `word`: `particle_after("별", "이", "가")` is "이".

    As after a vowel where the word does not end in Hangul.
    """
    last = word[-1:]
    return consonant if "가" <= last <= "힣" and _final(last) else vowel


def _content_end(word: str, found: Sequence[Any]) -> int:
    """Where the particles and endings at the end of a word begin."""
    end = len(word)
    if end > _MAX_WORD:
        return end
    for morpheme in reversed(found):
        if morpheme.tag.split("-")[0] not in _FUNCTIONAL:
            break
        end = min(end, morpheme.start)
    return end


def _lemma(form: str, tag: str) -> str:
    """The term of a morpheme: a verb in its dictionary form, apart from the noun that is written alike."""
    if tag[0] != "V":
        return folded(form)
    # Kiwi takes 간단하다 for one verb and 신청하다 for a noun and a suffix: both become the noun.
    return folded(form[:-1] if len(form) > 2 and form[-1] in "하되" else form + "다")


def _surface(word: str) -> str:
    return folded(word.replace(",", "").strip("."))[:MAX_LENGTH - 2]


def _bigrams(word: str, at: int) -> list[Token]:
    """The bigrams of the Hangul in a `_KOREAN` word that stands at `at`."""
    return [Token(f"2:{a}{b}", at + i, at + i + 2)
            for i, (a, b) in enumerate(pairwise(word)) if has_hangul(a)]
