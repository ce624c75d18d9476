"""What is asked about a picture and how it is answered, in English and Korean: the words for `talk`.

Where there are several ways to ask, the first one is the usual one. "{thing}" and the like are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from madang.multimodal.scenes.words import Language


@dataclass(frozen=True, slots=True)
class Phrases:
    """Of one language. `ask` by kind of question; the rest are answers and parts of answers."""

    ask: Mapping[str, tuple[str, ...]]
    yes: str
    no: str
    nothing: str
    no_picture: str
    place: str  # the answer to "background"
    time: str
    count: str
    count_one: str
    colour: str
    size: Mapping[str, str]
    where: str
    found: str  # what stands somewhere
    panel: str  # a question about one of several pictures on a page
    no_other: str  # than those that were said
    compared: str  # what is seen with what was said
    verdict: str
    verdicts: Mapping[bool, str]
    further: str
    same: str
    larger: str
    dark: Mapping[str, str]  # by time of day
    detail_place: str
    detail_one: str
    detail_more: str
    detail_thing: str
    colours: Mapping[str, str]  # as nouns
    counts: Mapping[int, str]


ENGLISH = Phrases(
    ask={
        "caption": (
            "Describe the picture.",
            "What does the picture show?",
            "What do you see?",
            "Caption this picture.",
        ),
        "detail": (
            "Describe the picture in detail.",
            "Tell me everything that you see.",
            "Explain the picture in detail.",
        ),
        "background": ("What is the background?", "Where is this?", "Where was the picture taken?"),
        "time": ("What time of day is it?", "When is it?", "Which time of day does it show?"),
        "count": ("How many shapes are there?", "How many things do you see?", "Count the shapes."),
        "colour": ("What colour is the {shape}?", "Which colour does the {shape} have?", "What color is the {shape}?"),
        "size": ("How large is the {shape}?", "Is the {shape} small or large?", "What size is the {shape}?"),
        "position": ("Where is the {shape}?", "Where do you see the {shape}?", "At which place is the {shape}?"),
        "what": ("What is {position}?", "What do you see {position}?", "Is there anything {position}?"),
        "true": ("Is this true: {said}?", "Does the picture show {said}?", "Do you see {said}?"),
        "is": ("Is there {said}?", "Can you see {said}?", "Does it have {said}?"),
        "compare": ("Compare what is there with what was said.", "Does what is there fit what was said?"),
        "further": (
            "Which is further left, the {one} or the {other}?",
            "Which one stands more to the left, the {one} or the {other}?",
        ),
        "dark": ("Would one need a lamp there, and why?", "Is it dark, and how do you know?"),
        "larger": ("How many of the shapes are large?", "Count the large shapes."),
        "same": ("Do all shapes have the same colour?", "Are all of them of one colour?"),
        "draw": (
            "Draw {said}.",
            "Paint {said}.",
            "Make a picture of {said}.",
            "I would like a picture: {said}",
            "Show me {said}, please.",
            "Please draw {said}",
            "Generate an image of {said}.",
        ),
        "again": ("Draw this again.", "Paint the same picture.", "Make a picture like this one."),
        "at time": ("Draw the same {at_time}.", "Paint this {at_time}.", "Make it a picture {at_time}."),
        "at place": ("Draw the same {background}.", "Paint this {background}.", "Put it {background}, as a picture."),
        "recolour": ("Draw the same with the {shape} in {colour}.", "Make the {shape} {colour} and draw it."),
        "without": ("Draw the same without the {shape}.", "Paint it again, and leave out the {shape}."),
    },
    yes="Yes.",
    no="No.",
    nothing="Nothing is {position}.",
    no_picture="I see no picture. Show me one.",
    place="It is {background}.",
    time="It is {time}.",
    count="There are {count}.",
    count_one="There is one.",
    colour="The {shape} is {colour}.",
    size={"small": "The {shape} is small.", "large": "The {shape} is large."},
    where="The {shape} is {position}.",
    found="{thing}.",
    panel="The picture {position}: {question}",
    no_other="There is no other shape.",
    compared="{seen}; {said}: {verdict}.",
    verdict="So {verdict}.",
    verdicts={True: "yes", False: "no"},
    further="The {one}: it is {one_position}, and the {other} is {other_position}.",
    same="No: there are {colours}.",
    larger="{count}.",
    dark={
        "morning": "No: it is morning, and the sun rises.",
        "day": "No: it is day, and bright.",
        "evening": "Soon: it is evening, and the sun sets.",
        "night": "Yes: it is night, and the sky is dark.",
    },
    detail_place="The picture shows a scene {background} {at_time}.",
    detail_one="There is one shape.",
    detail_more="There are {count} shapes.",
    detail_thing="{position} there is {thing}.",
    colours={name: name for name in ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")},
    counts={0: "none", 1: "one", 2: "two", 3: "three"},
)

KOREAN = Phrases(
    ask={
        "caption": (
            "그림을 설명해 주세요.",
            "이 그림은 무엇을 보여 주나요?",
            "무엇이 보이나요?",
            "그림에 제목을 붙여 주세요.",
        ),
        "detail": (
            "그림을 자세히 설명해 주세요.",
            "보이는 것을 모두 말해 주세요.",
            "이 그림을 상세하게 묘사해 주세요.",
        ),
        "background": ("배경은 무엇인가요?", "여기는 어디인가요?", "어디를 그린 그림인가요?"),
        "time": ("하루 중 언제인가요?", "몇 시쯤인가요?", "어느 때를 그린 그림인가요?"),
        "count": ("도형은 몇 개인가요?", "몇 개가 보이나요?", "도형을 세어 주세요."),
        "colour": ("{shape}의 색은 무엇인가요?", "{shape:은/는} 무슨 색인가요?", "{shape}의 색깔을 말해 주세요."),
        "size": ("{shape}의 크기는 어떤가요?", "{shape:은/는} 큰가요, 작은가요?"),
        "position": ("{shape}의 위치는 어디인가요?", "{shape:은/는} 어디에 있나요?"),
        "what": ("{position} 무엇이 있나요?", "{position} 보이는 것은 무엇인가요?"),
        "true": ("이 설명이 맞나요: {said}?", "그림의 내용이 다음과 같나요: {said}?"),
        "is": ("{said:이/가} 보이나요?", "{said:이/가} 있나요?"),
        "compare": ("있는 것과 말한 것을 비교해 주세요.", "무엇이 있고 무엇이라고 했는지, 맞는지 말해 주세요."),
        "further": (
            "{one:과/와} {other} 중 어느 것이 더 왼쪽에 있나요?",
            "더 왼쪽에 있는 것은 {one}인가요, {other}인가요?",
        ),
        "dark": ("그곳에서는 등불이 필요할까요? 왜 그런가요?", "어두운가요? 어떻게 알 수 있나요?"),
        "larger": ("큰 도형은 몇 개인가요?", "큰 도형을 세어 주세요."),
        "same": ("도형이 모두 같은 색인가요?", "모두 한 가지 색인가요?"),
        "draw": (
            "그려 주세요: {said}",
            "{said}, 이렇게 그려 줘.",
            "다음 그림을 만들어 주세요: {said}",
            "{said} 그림을 보여 줘.",
            "{said}, 그려 줘.",
        ),
        "again": ("이 그림을 다시 그려 주세요.", "똑같이 그려 줘.", "이것과 같은 그림을 만들어 주세요."),
        "at time": ("같은 그림을 {time:으로/로} 바꿔 그려 주세요.", "이것을 {time}의 모습으로 그려 줘."),
        "at place": ("같은 그림을 {background} 배경으로 그려 주세요.", "배경을 {background:으로/로} 바꿔서 그려 줘."),
        "recolour": (
            "{shape:을/를} {colour:으로/로} 바꿔 그려 주세요.",
            "{shape}만 {colour:으로/로} 해서 다시 그려 줘.",
        ),
        "without": ("{shape:을/를} 빼고 다시 그려 주세요.", "{shape} 없이 그려 줘."),
    },
    yes="네.",
    no="아니요.",
    nothing="{position} 아무것도 없습니다.",
    no_picture="그림이 보이지 않습니다. 그림을 보여 주세요.",
    place="{background}입니다.",
    time="{time}입니다.",
    count="{count} 개입니다.",
    count_one="한 개입니다.",
    colour="{colour}입니다.",
    size={"small": "작습니다.", "large": "큽니다."},
    where="{position} 있습니다.",
    found="{thing}입니다.",
    panel="{position} 있는 그림: {question}",
    no_other="다른 도형은 없습니다.",
    compared="{seen}. {said}: {verdict}.",
    verdict="따라서 {verdict}.",
    verdicts={True: "네", False: "아니요"},
    further="{one}입니다. {one:은/는} {one_position}, {other:은/는} {other_position} 있습니다.",
    same="아니요: {colours}입니다.",
    larger="{count} 개입니다.",
    dark={
        "morning": "아니요: 아침이고 해가 뜹니다.",
        "day": "아니요: 낮이라 밝습니다.",
        "evening": "곧 필요합니다: 저녁이고 해가 집니다.",
        "night": "네: 밤이라 하늘이 어둡습니다.",
    },
    detail_place="{time}의 {background} 그림입니다.",
    detail_one="도형이 한 개 있습니다.",
    detail_more="도형이 {count} 개 있습니다.",
    detail_thing="{position} {thing:이/가} 있습니다.",
    colours={
        "red": "빨간색",
        "orange": "주황색",
        "yellow": "노란색",
        "green": "초록색",
        "blue": "파란색",
        "purple": "보라색",
        "pink": "분홍색",
        "white": "하얀색",
    },
    counts={0: "영", 1: "한", 2: "두", 3: "세"},
)

PHRASES: Mapping[Language, Phrases] = {"en": ENGLISH, "ko": KOREAN}
