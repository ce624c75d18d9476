"""The bundled reader in a conversation: it quotes, calls, chooses, fills; and where it cannot, it says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from madang.base.errors import InvalidInput, NotFound
from madang.base.messages import AnswerFormat, ChatOptions, Delta, Image, Message, Tool, ToolCall
from madang.models.protocol import ChatModel
from madang.models.providers.bundled import BundledProvider


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return BundledProvider().chat_model("reader")


def _tool(name: str, description: str, required: list[str] | None = None, **properties: Any) -> Tool:
    return Tool(name, description, {"type": "object", "properties": properties,
                                    "required": list(properties) if required is None else required})


TEXT, INT = {"type": "string"}, {"type": "integer"}
TOOLS = (
    _tool("get_weather", "Get the current weather for a city.", ["city"], city=TEXT,
          unit={"type": "string", "enum": ["celsius", "fahrenheit"]}),
    _tool("add", "Add two numbers.", a=INT, b=INT),
    _tool("search_documents", "Search the company handbook for passages about a question.", query=TEXT),
    _tool("send_email", "Send an email message to a person.", to=TEXT, subject=TEXT),
    _tool("get_stock_price", "Look up the latest price of a stock.", ticker=TEXT),
    _tool("book_flight", "Book a flight between two cities.", origin=TEXT, destination=TEXT),
)
TOOLS_KO = (_tool("weather", "도시의 현재 날씨를 알려준다", city=TEXT), _tool("add", "두 수를 더한다", a=INT, b=INT))


def ask(model: ChatModel, *messages: Message | str, **options: Any) -> list[Delta]:
    return list(model.chat([Message("user", each) if isinstance(each, str) else each for each in messages],
                           ChatOptions(**options)))


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def call_of(deltas: list[Delta]) -> tuple[str, Any] | None:
    calls = [piece for delta in deltas for piece in delta.tool_calls]
    return (calls[0].name, json.loads(calls[0].arguments)) if calls else None


@pytest.mark.parametrize(("request_", "name", "arguments"), [
    ("What is the weather in Seoul?", "get_weather", {"city": "Seoul"}),
    ("Is it raining in Paris right now? What's the weather, in celsius?", "get_weather", {"city": "Paris", "unit": "celsius"}),
    ("What is 12 plus 30?", "add", {"a": 12, "b": 30}),
    ("Add 3 and 4", "add", {"a": 3, "b": 4}),
    ("What is the price of AAPL stock?", "get_stock_price", {"ticker": "AAPL"}),
    ("Book a flight from Seoul to Tokyo", "book_flight", {"origin": "Seoul", "destination": "Tokyo"}),
    ("Search the handbook for vacation days", "search_documents", {"query": "the handbook for vacation days"}),
])
def test_a_tool_that_fits_is_called(model: ChatModel, request_: str, name: str, arguments: dict[str, Any]) -> None:
    deltas = ask(model, request_, tools=TOOLS)
    assert call_of(deltas) == (name, arguments)
    assert deltas[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize(("request_", "name", "arguments"), [
    ("서울의 날씨 알려줘", "weather", {"city": "서울"}), ("3과 4를 더해줘", "add", {"a": 3, "b": 4})])
def test_korean_requests_and_tools(model: ChatModel, request_: str, name: str, arguments: dict[str, Any]) -> None:
    assert call_of(ask(model, request_, tools=TOOLS_KO)) == (name, arguments)


@pytest.mark.parametrize("request_", ["hi", "Tell me a joke", "Write a poem about the sea", "What is your name?", "Who wrote Hamlet?",
                                      "What is the capital of France?", "안녕하세요", "농담 하나 해줘"])
def test_no_tool_is_called_for_what_none_does(model: ChatModel, request_: str) -> None:
    deltas = ask(model, request_, tools=TOOLS)
    assert call_of(deltas) is None
    assert "bundled/reader" in text_of(deltas)
    assert "[models] chat" in text_of(deltas)


def test_tool_choice(model: ChatModel) -> None:
    asked = "What is the weather in Seoul?"
    assert call_of(ask(model, asked, tools=TOOLS, tool_choice="none")) is None
    assert call_of(ask(model, "about Seoul", tools=TOOLS[:1], tool_choice="required")) == ("get_weather", {"city": "Seoul"})
    assert call_of(ask(model, asked, tools=TOOLS, tool_choice="named", tool_name="search_documents")) == (
        "search_documents", {"query": asked})


def test_an_argument_that_is_not_said_is_asked_for(model: ChatModel) -> None:
    deltas = ask(model, "What is the weather?", tools=TOOLS)
    assert call_of(deltas) is None
    assert text_of(deltas) == "To call get_weather I need: city. The request does not say it."
    assert "city" in text_of(ask(model, "날씨 알려줘", tools=TOOLS_KO))
    assert call_of(ask(model, "I am in Busan.", Message("assistant", "Fine."), "What is the weather?", tools=TOOLS)) == (
        "get_weather", {"city": "Busan"})


def test_a_tools_result_is_passed_on(model: ChatModel) -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("c1", "get_weather", '{"city": "Seoul"}'),))
    told = Message("tool", "21 degrees and sunny in Seoul.", tool_call_id="c1")
    assert text_of(ask(model, "What is the weather in Seoul?", call, told, tools=TOOLS)) == told.content
    rule = Message("system", "Solve tasks using your tools. Reply with TERMINATE when the task has been completed.")
    assert text_of(ask(model, rule, "What is the weather in Seoul?", call, told, tools=TOOLS)) == f"{told.content}\n\nTERMINATE"
    assert "TERMINATE" not in text_of(ask(model, rule, "Tell me a joke", tools=TOOLS))
    two = (ToolCall("c1", "get_weather"), ToolCall("c2", "add"))
    both = ask(model, "Weather and sum", Message("assistant", "", tool_calls=two), told,
               Message("tool", "7", tool_call_id="c2"), tools=TOOLS)
    assert text_of(both) == "get_weather: 21 degrees and sunny in Seoul.\nadd: 7"


HANDBOOK = ("Employees get 25 days of paid vacation per year.\n\nThe office opens at nine and closes at six.\n\n"
            "Travel is booked by the assistant of the team.")


@pytest.mark.parametrize("messages", [
    [f"Context information is below.\n---------------------\n{HANDBOOK}\n---------------------\nGiven the context information and "
     "not prior knowledge, answer the query.\nQuery: How many vacation days do employees get?\nAnswer: "],
    [Message("system", f"Answer using the context.\n\n{HANDBOOK}"), "How many vacation days do employees get?"],
    [f"{HANDBOOK}\n\nHow many vacation days do employees get?"],
    ["How many vacation days do employees get?", Message("assistant", "", tool_calls=(ToolCall("c", "search"),)),
     Message("tool", f"{HANDBOOK}\n\n" * 12, tool_call_id="c")],
])
def test_what_the_conversation_says_is_quoted(model: ChatModel, messages: list[Message | str]) -> None:
    assert text_of(ask(model, *messages)) == "Employees get 25 days of paid vacation per year."


def test_korean_passages_are_quoted(model: ChatModel) -> None:
    text = "직원은 해마다 유급 휴가를 25일 받습니다.\n\n사무실은 아홉 시에 엽니다."
    assert text_of(ask(model, f"{text}\n\n질문: 유급 휴가는 며칠인가요?")) == "직원은 해마다 유급 휴가를 25일 받습니다."


def test_what_it_cannot_do_it_says(model: ChatModel) -> None:
    assert "cannot see pictures" in text_of(ask(model, Message("user", "What is this?", parts=("What is this?", Image("image/png", b"x")))))
    assert "마당에 들어 있는" in text_of(ask(model, "시를 써 주세요"))
    assert "Nothing here answers this" in text_of(ask(model, f"{HANDBOOK}\n\nWho painted the Mona Lisa?"))
    with pytest.raises(InvalidInput):
        model.chat([])
    with pytest.raises(NotFound):
        BundledProvider().chat_model("minilm")
    with pytest.raises(NotFound, match="draw"):
        BundledProvider().image_generator("reader")


SELECT = """You are in a role play game. The following roles are available:
{roles}.
Read the following conversation. Then select the next role from {names} to play. Only return the role.

{history}

Read the above conversation. Then select the next role from {names} to play. Only return the role.
"""
ROLES = ("writer: Writes and revises short texts.\nweather_agent: Tells the weather of cities.\n"
         "accountant: Does the sums and the taxes.")
NAMES = "['writer', 'weather_agent', 'accountant']"


@pytest.mark.parametrize(("history", "expected"), [
    ("user: What is the weather in Seoul?", "weather_agent"),
    ("user: What is the weather in Seoul?\nweather_agent: It is sunny. writer, please write a text about it.", "writer"),
    ("user: Please do the taxes and sums.", "accountant"),
    ("user: go\nwriter: xyzzy", "weather_agent"),
    ("", "writer"),
])
def test_one_of_the_names_is_chosen(model: ChatModel, history: str, expected: str) -> None:
    asked = SELECT.format(roles=ROLES, names=NAMES, history=history)
    for role in ("system", "user"):
        assert text_of(ask(model, Message(role, asked))) == expected  # type: ignore[arg-type]


def test_names_after_messages_of_their_own(model: ChatModel) -> None:
    """As ag2 asks: who there is first, then the conversation, then the question."""
    head = Message("system", f"You are in a role play game. The following roles are available:\n{ROLES}.\n\n"
                             f"Read the following conversation. Then select the next role from {NAMES} to play.")
    tail = Message("system", f"Read the above conversation. Then select the next role from {NAMES} to play. Only return the role.")
    said = Message("user", "Please tell me the weather.", name="user")
    assert text_of(ask(model, head, said, tail)) == "weather_agent"
    assert text_of(ask(model, "다음 이름 ['가', '나'] 중에서 하나를 고르세요.")) in ("가", "나")


EVENT = {"type": "object", "properties": {"people": {"type": "array", "items": TEXT}, "day": TEXT}, "required": ["people", "day"],
         "additionalProperties": False}


def test_json_of_a_schema(model: ChatModel) -> None:
    deltas = ask(model, "Alice and Bob meet on Friday.", answer_format=AnswerFormat(EVENT, "event"))
    assert json.loads(text_of(deltas)) == {"people": ["Alice", "Bob"], "day": "Friday"}
    refused = ask(model, "They meet.", answer_format=AnswerFormat(EVENT, "event"))
    assert text_of(refused) == ""
    assert "people, day" in "".join(delta.refusal for delta in refused)
    answer = ask(model, f"{HANDBOOK}\n\nHow many vacation days do employees get?",
                 answer_format=AnswerFormat({"type": "object", "properties": {"answer": TEXT}, "required": ["answer"]}, "a"))
    assert json.loads(text_of(answer)) == {"answer": "Employees get 25 days of paid vacation per year."}


def test_any_json(model: ChatModel) -> None:
    found = json.loads(text_of(ask(model, f"{HANDBOOK}\n\nHow many vacation days do employees get?", answer_format=AnswerFormat())))
    assert found == {"answer": "Employees get 25 days of paid vacation per year."}
    assert json.loads(text_of(ask(model, "Write a poem.", answer_format=AnswerFormat())))["answer"] is None


def test_stop_and_length(model: ChatModel) -> None:
    asked = f"{HANDBOOK}\n\nHow many vacation days do employees get?"
    assert text_of(ask(model, asked, stop=("paid",))).strip() == "Employees get 25 days of"
    cut = ask(model, asked, max_tokens=3)
    assert (text_of(cut), cut[-1].finish_reason) == ("Employees get 25", "length")


@pytest.mark.parametrize("text", ["a" * 2_000_000, "\n" * 1_000_000, " " * 1_000_000 + "?", "A " * 500_000, "./" * 500_000, "[" * 500_000,
                                  "1," * 500_000, "select " * 200_000, "Query: " * 200_000, "'" * 500_000, "가 " * 500_000])
def test_no_text_keeps_it_busy(model: ChatModel, text: str) -> None:
    """Each rule takes time in proportion to what it looks at, and looks at so much only; the suite's own limit tells."""
    schema = {"type": "object", "properties": {f"path{n}": TEXT for n in range(5_000)}, "required": [f"path{n}" for n in range(5_000)]}
    ask(model, text, tools=TOOLS)
    ask(model, Message("system", text), "What is it?", answer_format=AnswerFormat(schema, "s"))
    ask(model, text, tools=(Tool("path", text, schema),), tool_choice="required")
