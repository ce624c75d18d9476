"""OpenAI's client: embeddings, a streamed answer, tools, JSON in a schema. The client is unmodified."""

import json

from openai import OpenAI

client = OpenAI()                                # OPENAI_API_KEY and OPENAI_BASE_URL say where

print("models:", ", ".join(model.id for model in client.models.list().data[:5]), "...")

vectors = client.embeddings.create(model="text-embedding-3-small", input=["a cat", "a small feline", "annual leave"]).data
cat, feline, leave = (item.embedding for item in vectors)
assert len(cat) == 1536
assert sum(map(float.__mul__, cat, feline)) > sum(map(float.__mul__, cat, leave))

# A streamed answer
handbook = "Everybody has fifteen days of annual leave. The office opens at nine. Receipts are kept for five years."
stream = client.chat.completions.create(model="gpt-4o", stream=True, messages=[
    {"role": "system", "content": f"Answer from the handbook.\n\n{handbook}"},
    {"role": "user", "content": "How many days of annual leave does everybody have?"}])
answer = ""
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        print(chunk.choices[0].delta.content, end="", flush=True)
        answer += chunk.choices[0].delta.content
print()
assert "fifteen days" in answer


# Tools
def get_weather(city: str) -> str:
    return json.dumps({"city": city, "forecast": "sunny, 21 degrees"})


tools = [{"type": "function", "function": {
    "name": "get_weather", "description": "Get the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "The name of the city"}},
                   "required": ["city"]}}}]
messages = [{"role": "user", "content": "What is the weather in Seoul?"}]
reply = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools).choices[0].message
call = reply.tool_calls[0]
arguments = json.loads(call.function.arguments)
print("calls", call.function.name, arguments)
assert (call.function.name, arguments) == ("get_weather", {"city": "Seoul"})
messages += [reply, {"role": "tool", "tool_call_id": call.id, "content": get_weather(**arguments)}]
final = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools).choices[0].message.content
print(final)
assert "sunny" in final

# JSON in a schema
schema = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
          "required": ["city", "days"], "additionalProperties": False}
written = client.chat.completions.create(
    model="gpt-4o", messages=[{"role": "user", "content": "I will stay in the city of Busan for 3 days."}],
    response_format={"type": "json_schema", "json_schema": {"name": "trip", "strict": True, "schema": schema}})
trip = json.loads(written.choices[0].message.content)
print(trip)
assert set(trip) == {"city", "days"}
