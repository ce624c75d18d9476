"""AutoGen: an assistant with a tool and a user proxy take turns until the user approves. The user is a list of lines."""

import asyncio
import os

from autogen_agentchat.agents import AssistantAgent, UserProxyAgent
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.ui import Console
from autogen_ext.models.openai import OpenAIChatCompletionClient

LINES = iter(["And what is the weather in Busan?", "APPROVE"])


async def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"The weather in {city} is sunny and 21 degrees."


async def main() -> None:
    model = OpenAIChatCompletionClient(model="gpt-4o", base_url=os.environ["OPENAI_BASE_URL"])
    assistant = AssistantAgent("assistant", model_client=model, tools=[get_weather], reflect_on_tool_use=True,
                               system_message="You are a helpful assistant. Use tools to answer.")
    user = UserProxyAgent("user_proxy", input_func=lambda prompt: next(LINES))
    team = RoundRobinGroupChat([assistant, user],
                               termination_condition=TextMentionTermination("APPROVE") | MaxMessageTermination(20))
    result = await Console(team.run_stream(task="What is the weather in Seoul?"))
    said = [message.to_text() for message in result.messages if message.source == "assistant"]
    assert any("Seoul is sunny" in text for text in said), said
    assert any("Busan is sunny" in text for text in said), said
    assert "APPROVE" in str(result.stop_reason)
    await model.close()


asyncio.run(main())
