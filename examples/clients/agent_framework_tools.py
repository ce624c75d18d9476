"""Microsoft's agent-framework: an agent with a tool, by its default client, which speaks OpenAI's Responses."""

import asyncio
from typing import Annotated

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient


def get_weather(city: Annotated[str, "The name of the city"]) -> str:
    """Get the weather of a city."""
    return f"The weather in {city} is sunny and 21 degrees."


async def main() -> None:
    agent = Agent(client=OpenAIChatClient(model="gpt-4o"), name="weather", tools=[get_weather],
                  instructions="You are a helpful agent. Use tools to answer.")
    answer = await agent.run("What is the weather in Seoul?")
    print(answer.text)
    assert "sunny" in answer.text
    stream = agent.run("What is the weather in Busan?", stream=True)
    async for update in stream:
        for content in update.contents:
            if content.type == "text" and content.merge_mode == "append":       # the last one repeats the whole text
                print(content.text, end="", flush=True)
    print()
    assert (await stream.get_final_response()).text.count("sunny") == 1


asyncio.run(main())
