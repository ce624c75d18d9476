"""The one analyzer: text to weighted terms for BM25, word overlap, sentence scores and citations.

Words of spaced scripts are Unicode words (letters, digits and the combining marks on them), NFKC-normalized,
casefolded and stemmed with Snowball's English stemmer (Porter, "Snowball", 2001: porter2). An identifier
(`read_text`, `os.path`, `ReadText`) counts as itself and, at a lower weight, as its parts. Scripts without
spaces become character bigrams. Korean is in `madang.text.korean`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import Stemmer

from madang.base.errors import Conflict, MissingDependency
from madang.text.korean import Analysis, Bigrams, Kiwi, Korean, Token, folded, has_hangul, has_kiwi
from madang.text.languages import HAN, HANGUL

VERSION = 1  # of the rules in this room: any change of a term or a weight raises it

PART = 0.5  # the weight of a part of an identifier, beside 1.0 for the whole
HAN_CHARACTER = 0.3  # of one Han character, which can be a word, beside 1.0 for a bigram

_MAX_PARTS = 8  # a "name" of more humps is base64
_CACHED_LENGTH, _CACHED_TERMS = 256, 32  # a "word" may be a page of Chinese; such are not met again

# Kana, and the scripts of South-East Asia that write no spaces either (Thai, Lao, Myanmar, Khmer).
_UNSPACED = (HAN + "\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff"
             "\u0e01-\u0e4e\u0e81-\u0ecd\u1000-\u109f\u1780-\u17d3")
# Marks that belong to the letter before them; `\w` alone would break words at each. In the blocks of Indic
# scripts everything but the danda belongs to words.
_MARKS = ("\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a"
          "\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0711\u0730-\u074a\u0900-\u0963\u0966-\u0df3"
          "\u0e31-\u0e4e\u0eb1-\u0ecd\u102b-\u103e\u1056-\u109d\u17b4-\u17d3\u1ab0-\u1aff\u1dc0-\u1dff"
          "\u20d0-\u20ff\u3099\u309a\ufe20-\ufe2f")
_W = rf"[\w{_MARKS}]"
# A full stop or an apostrophe between two characters joins them (os.path, don't), beside Hangul it ends a
# sentence that lacks a space; a comma joins only the digits of one number.
_TOKEN = re.compile(rf"{_W}+(?:(?:(?<![{HANGUL}])[.'’](?![{HANGUL}])|(?<=\d),(?=\d\d\d(?!\d))){_W}+)*")
_PIECE = re.compile(rf"[{HANGUL}]+|(?P<unspaced>[{_UNSPACED}]+)|(?P<word>[^{HANGUL}{_UNSPACED}]+)")
_WHOLE = re.compile(r".+", re.DOTALL)
_CAMEL = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[^A-Z]+")
_HUMP = re.compile(r"[^\WA-Z][A-Z]|[A-Z][A-Z][a-z]")
_PLURAL = re.compile(r"[A-Z]+s")
_LATIN = re.compile("[a-z'\u00df-\u024f]+")
_has_han = re.compile(f"[{HAN}]").search

_Entry: TypeAlias = str | Analysis  # for nearly every word one term of weight 1 that covers the word


class Analyzer:
    """Weighted terms of texts. Safe to use from any number of threads; never fails on any string.

    Terms are never empty and at most 64 characters long; a colon stands only in the marks of Korean surface
    forms ("s:") and of bigrams ("2:"). `signature` names the rules and libraries that made the terms: terms
    of different signatures must not meet in one index or one score.
    """

    def __init__(self, korean: Korean, cache_size: int = 1 << 17) -> None:
        """`cache_size`: how many words are remembered; each takes a few hundred bytes."""
        self.signature = f"{_prefix()}|{korean.name}"
        self._korean = korean
        self._stemmer = Stemmer.Stemmer("english", 0)  # uncached: the analyses are remembered
        self._lock = threading.Lock()  # around both of the above, which hold state while they work
        self._cache_size = cache_size
        self._cache: dict[str, _Entry] = {}

    def index_terms(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text its terms and their weighted frequencies (> 0); their sum is its length."""
        words = [_TOKEN.findall(text) for text in texts]
        try:  # all known, as nearly always
            return [_weighted(found, self._cache) for found in words]
        except KeyError:
            known = self._analyses(set().union(*words))
            return [_weighted(found, known) for found in words]

    def query_terms(self, text: str) -> dict[str, float]:
        """The terms of a question and their weights (> 0)."""
        return self.index_terms([text])[0]

    def tokens(self, text: str) -> list[Token]:
        """The text as one sequence of terms in reading order, for measures that compare sequences.

        Words as stems, an identifier as its parts, Korean as content morphemes (as bigrams without Kiwi),
        other unspaced scripts as bigrams. Places are exact to the character, or to the word where
        normalization changes the word.
        """
        matches = list(_TOKEN.finditer(text))
        known = self._analyses({match[0] for match in matches})
        result = []
        for match in matches:
            found, at = known[match[0]], match.start()
            if isinstance(found, str):
                result.append(Token(found, at, match.end()))
            else:
                result += [Token(term, at + start, at + end) for term, start, end in found.tokens]
        return result

    def _analyses(self, words: set[str]) -> Mapping[str, _Entry]:
        """The analyses of the words (and maybe of others), from the cache where possible."""
        cache = self._cache
        missing = words.difference(cache)
        if not missing:
            return cache
        with self._lock:
            fresh = self._analyze(list(missing))
        short = {word: found for word, found in fresh.items() if len(word) <= _CACHED_LENGTH
                 and (isinstance(found, str) or len(found.features) <= _CACHED_TERMS)}
        full = len(cache) + len(short) > self._cache_size
        if not full:
            cache.update(short)
            if len(short) == len(fresh):
                return cache
        known = {word: cache[word] for word in words - missing} | fresh
        if full:
            self._cache = short  # replaced, never emptied: another thread may be reading the old one
        return known

    def _analyze(self, words: Sequence[str]) -> dict[str, _Entry]:
        """The analyses of words that `_TOKEN` matched. The caller holds the lock."""
        normal = {word: word if word.isascii() else unicodedata.normalize("NFKC", word) for word in words}
        # Normalization may turn one character into several words (½ into 1⁄2).
        parts = {word: [form] if form == word else _TOKEN.findall(form) for word, form in normal.items()}
        hangul = list(dict.fromkeys(part for found in parts.values() for part in found if has_hangul(part)))
        korean = dict(zip(hangul, self._korean.analyze(hangul), strict=True)) if hangul else {}
        result: dict[str, _Entry] = {}
        for word, found in parts.items():
            analyses = [self._word(part, korean.get(part)) for part in found]
            features = [feature for analysis in analyses for feature in analysis.features]
            tokens = [token for analysis in analyses for token in analysis.tokens]
            if normal[word] != word:
                tokens = [Token(token.term, 0, len(word)) for token in tokens]
            term = features[0][0] if features else ""
            plain = features == [(term, 1.0)] and tokens == [Token(term, 0, len(word))]
            result[word] = term if plain else Analysis(tuple(features), tuple(tokens))
        return result

    def _word(self, word: str, korean: Analysis | None) -> Analysis:
        """A normalized word, which may change its script on the way (API를)."""
        features: list[tuple[str, float]] = []
        tokens: list[Token] = []
        for piece in _PIECE.finditer(word):
            if piece.lastgroup == "unspaced":
                found = _unspaced(piece[0], piece.start())
            elif piece.lastgroup == "word":
                found = self._dotted(piece[0], piece.start())
            else:
                continue
            features += found.features
            tokens += found.tokens
        if korean:
            features += korean.features
            tokens = sorted([*tokens, *korean.tokens], key=lambda token: token.start)
        return Analysis(features, tokens)

    def _dotted(self, text: str, at: int) -> Analysis:
        """A word, a number, or names joined by full stops."""
        at += len(text) - len(text.lstrip(".'’,_"))
        text = text.strip(".'’,_").replace("’", "'")
        if not text:
            return Analysis((), ())
        if "." not in text:
            return self._identifier(text, at)
        whole = folded(text.replace(",", ""))
        if not any(map(str.isalpha, text)):
            return Analysis([(whole, 1.0)], [Token(whole, at, at + len(text))])
        features, tokens = [(whole, 1.0)], list[Token]()
        for segment in re.finditer(r"[^.]+", text):
            part = self._identifier(segment[0], at + segment.start())
            features += [(term, weight * PART) for term, weight in part.features]
            tokens += part.tokens
        return Analysis(features, tokens)

    def _identifier(self, text: str, at: int) -> Analysis:
        """A word, or words joined by underscores or capitals."""
        if text.isalpha() and not _HUMP.search(text):  # nearly every word
            term = self._stemmed(text)
            return Analysis([(term, 1.0)], [Token(term, at, at + len(text))])
        parts = [(name.start() + part.start(), part[0])
                 for name in re.finditer("[^_]+", text) for part in _humps(name[0])]
        tokens = [Token(self._stemmed(part), at + start, at + start + len(part)) for start, part in parts]
        if len(tokens) == 1:
            return Analysis([(tokens[0].term, 1.0)], tokens)
        whole = folded(text.strip("_")) if "_" in text else self._stemmed(text)
        if len(tokens) > _MAX_PARTS:
            return Analysis([(whole, 1.0)], [Token(whole, at, at + len(text))])
        return Analysis([(whole, 1.0), *((token.term, PART) for token in tokens)], tokens)

    def _stemmed(self, word: str) -> str:
        if _PLURAL.fullmatch(word):  # the stemmer wants a vowel before it takes an s away
            word = word[:-1]
        term = folded(word.replace(",", ""))
        if _LATIN.fullmatch(term):
            stem: str = self._stemmer.stemWord(term)
            return stem or term
        return term


@functools.cache
def default_analyzer() -> Analyzer:
    """The analyzer of new collections: with Kiwi if it is installed (`madang[ko]`), else with bigrams."""
    return _analyzers()["kiwi"] if has_kiwi() else _analyzers()["bigram"]


def analyzer_for(signature: str, collection: str = "NAME") -> Analyzer:
    """The analyzer that a stored signature names; `collection` completes the remedy of an error.

    A bigram signature works whether Kiwi is installed or not. Raises `MissingDependency` if the signature
    needs Kiwi and it is not installed, `Conflict` if it names other versions than are installed.
    """
    if "|ko:kiwi-" in signature and not has_kiwi():
        raise MissingDependency(f"Collection {collection!r} was analyzed with Kiwi, and", extra="ko")
    for analyzer in _analyzers().values():
        if analyzer.signature == signature:
            return analyzer
    raise Conflict(f"Collection {collection!r} was analyzed as {signature!r}, this installation analyzes as "
                   f"{default_analyzer().signature!r}.",
                   remedy=f"Analyze it anew: madang collection reanalyze {collection}")


@functools.cache
def _analyzers() -> dict[str, Analyzer]:
    return {"bigram": Analyzer(Bigrams())} | ({"kiwi": Analyzer(Kiwi())} if has_kiwi() else {})


def _prefix() -> str:
    return f"madang-analyzer:{VERSION}|en:porter2-{importlib.metadata.version('PyStemmer')}"


def _weighted(words: Sequence[str], known: Mapping[str, _Entry]) -> dict[str, float]:
    """The terms of one text. The inner loop of indexing: most of the work is `Counter` and `map`, in C."""
    terms: dict[str, float] = {}
    get = terms.get
    for found, count in Counter(map(known.__getitem__, words)).items():
        if isinstance(found, str):
            terms[found] = get(found, 0.0) + count
        else:
            for term, weight in found.features:
                terms[term] = get(term, 0.0) + count * weight
    return terms


def _humps(name: str) -> Iterable[re.Match[str]]:
    """The words of a CamelCase name; one match for any other."""
    camel = _HUMP.search(name) and not _PLURAL.fullmatch(name)
    return (_CAMEL if camel else _WHOLE).finditer(name)


def _unspaced(text: str, at: int) -> Analysis:
    """A run without spaces: its bigrams, and Han characters, which can be words, by themselves."""
    if len(text) == 1:
        return Analysis([(text, 1.0)], [Token(text, at, at + 1)])
    tokens = [Token(f"2:{a}{b}", at + i, at + i + 2) for i, (a, b) in enumerate(pairwise(text))]
    return Analysis([*((token.term, 1.0) for token in tokens),
                      *((character, HAN_CHARACTER) for character in text if _has_han(character))], tokens)
