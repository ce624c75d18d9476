"""The words and patterns by which the bundled reader finds values in a text."""

from __future__ import annotations

import re

NUMBER = re.compile(r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\d:/-]|\.\d)")
NUMBERS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
           "ten": 10, "eleven": 11, "twelve": 12, "하나": 1, "둘": 2, "셋": 3, "넷": 4, "다섯": 5, "여섯": 6, "일곱": 7,
           "여덟": 8, "아홉": 9, "열": 10, "한": 1, "두": 2, "세": 3, "네": 4}
NUMBER_WORD = re.compile(rf"(?<!\w)(?:{'|'.join(sorted(NUMBERS, key=len, reverse=True))})(?!\w)", re.IGNORECASE)
QUOTED = re.compile(r"\"([^\"\n]{1,500})\"|“([^”\n]{1,500})”|(?<!\w)'([^'\n]{1,500})'(?!\w)|‘([^’\n]{1,500})’|"
                    r"「([^」\n]{1,500})」|`([^`\n]{1,500})`")
EXPRESSION = re.compile(r"[-(\d][-\d\s.,+*/^%()×÷]{1,198}[)\d]")
OPERATION = re.compile(r"\d\s*[-+*/^%×÷]\s*[(\d]")
_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAY = (r"\d{4}-\d{2}-\d{2}|\d{4}년\s?\d{1,2}월\s?\d{1,2}일|\d{1,2}월\s?\d{1,2}일|today|tomorrow|yesterday|tonight|"
        r"(?:next |this )?(?:mon|tues|wednes|thurs|fri|satur|sun)day|오늘|내일|모레|어제|[월화수목금토일]요일|"
        rf"(?:{_MONTH})\s\d{{1,2}}(?:,\s?\d{{4}})?")
# By a word of a property's name or its format: the pattern of what stands there. A name may have several.
PATTERNS: tuple[tuple[frozenset[str], re.Pattern[str]], ...] = tuple(
    (frozenset(words.split()), re.compile(pattern, flags)) for words, pattern, flags in (
        ("email mail recipient to", r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+", 0),
        ("url uri link website webpage", r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)]", 0),
        ("datetime timestamp", r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2})?(?:Z|[+-]\d\d:\d\d)?", 0),
        ("date day when", _DAY, re.IGNORECASE),
        ("time hour", r"\d{1,2}:\d{2}(?::\d{2})?(?:\s?[ap]m)?|\d{1,2}\s?[ap]m|\d{1,2}시(?:\s?\d{1,2}분)?",
         re.IGNORECASE),
        ("phone telephone mobile", r"\+?\d[\d ()-]{6,17}\d", 0),
        ("timezone tz", r"[A-Z][a-z]+/[A-Z][A-Za-z_]+|(?:UTC|GMT)(?:[+-]\d{1,2})?|KST", 0),
        ("ticker symbol currency code", r"\b[A-Z]{2,6}\b", 0),
        ("expression formula equation calculation", EXPRESSION.pattern, 0),
        ("path file filename filepath", r"(?:[\w.~-]{0,64}/){0,16}[\w-]{1,64}\.\w{1,8}\b", 0)))
WHOLE = frozenset({"query", "question", "prompt", "request", "input", "task", "text", "message", "q", "search",
                   "instruction", "content", "sentence"})
PLACES = frozenset({"city", "location", "place", "country", "region", "town", "area", "address", "where"})
FROM = frozenset({"from", "origin", "source", "departure", "start"})
TO = frozenset({"to", "destination", "target", "arrival", "end"})
# Properties of which not just any name will do.
OF_A_KIND = frozenset[str]().union(*(words for words, _ in PATTERNS)) - {"to", "code", "recipient", "file"} | FROM
COMMAND = re.compile(
    r"^(?:please\s+)?(?:(?:can|could|would)\s+you\s+)?(?:please\s+)?(?:search(?:\s+for)?|find(?:\s+out)?|look\s+up|"
    r"look\s+for|tell\s+me|ask|query)\b[\s:,]*", re.IGNORECASE)
NOT_NAMES = frozenset(word for line in (
    "i what who whom whose when where which why how is are was were do does did can could would will shall should",
    "may the a an please tell show get give find search look book send add compute calculate and or if my your our",
    "hello hi hey let in on at to from for of it this that there monday tuesday wednesday thursday friday saturday",
    "sunday january february march april june july august september october november december",
    "they he she we you his her their its us me them") for word in line.split())
NAME = re.compile(r"[A-Z][\w'’&.-]*(?:[ ](?:(?:of|de|la|the) )?[A-Z][\w'’&-]*){0,7}")
KOREAN = re.compile("[가-힣]{2,}")
PARTICLE = re.compile("(?:에서부터|에서의|에서|에게|으로|까지|부터|이랑|하고|에|의|은|는|이|가|을|를|로|와|과|랑|도)$")
NOT_NAMES_KO = frozenset(word for line in (
    "날씨 알려줘 알려주세요 알려 어때 어떤가요 어때요 오늘 내일 모레 지금 현재 검색 찾아줘 찾아 보여줘 보여 예약",
    "예약해줘 해줘 주세요 무엇 뭐야 몇 얼마 얼마야 시간 가는 비행기 기온 좀") for word in line.split())
FROM_KO, TO_KO = frozenset({"에서", "에서부터", "부터"}), frozenset({"까지", "로", "으로"})
VERB_END_KO = re.compile("(?:줘|요|까|다|니|냐|자)$")
