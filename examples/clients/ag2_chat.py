"""AG2 (the community's AutoGen): a user proxy that runs the tools an assistant asks for."""

import os
from typing import Annotated

from autogen import AssistantAgent, LLMConfig, UserProxyAgent

llm_config = LLMConfig({"model": "gpt-4o", "api_key": "any", "base_url": os.environ["OPENAI_BASE_URL"]})
assistant = AssistantAgent("assistant", llm_config=llm_config,
                           system_message="Use the tools to answer. Reply TERMINATE when the task is done.")
user = UserProxyAgent("user_proxy", human_input_mode="NEVER", code_execution_config=False, max_consecutive_auto_reply=4,
                      is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""))


@user.register_for_execution()
@assistant.register_for_llm(description="Get the weather of a city.")
def get_weather(city: Annotated[str, "The name of the city"]) -> str:
    return f"The weather in {city} is sunny and 21 degrees."


result = user.initiate_chat(assistant, message="What is the weather in Seoul?", max_turns=4)
told = [message for message in result.chat_history if message.get("role") == "tool" or message.get("tool_responses")]
assert any("Seoul is sunny" in str(message.get("content")) for message in told), result.chat_history
