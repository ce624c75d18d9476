
"""What servers send, byte for byte as their documentation and issue trackers show it (texts are ours)."""

from __future__ import annotations

# https://platform.openai.com/docs/api-reference/chat-streaming, with include_usage.
OPENAI_STREAM = """\
data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741570000,"model":"gpt-4o-mini-2024-07-18",\
"service_tier":"default","system_fingerprint":"fp_06","choices":[{"index":0,"delta":{"role":"assistant",\
"content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"jW2"}

data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741570000,"model":"gpt-4o-mini-2024-07-18",\
"service_tier":"default","system_fingerprint":"fp_06","choices":[{"index":0,"delta":{"content":"연차는 "},\
"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"0"}

data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741570000,"model":"gpt-4o-mini-2024-07-18",\
"service_tier":"default","system_fingerprint":"fp_06","choices":[{"index":0,"delta":{"content":"15일입니다."},\
"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"aK"}

data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741570000,"model":"gpt-4o-mini-2024-07-18",\
"service_tier":"default","system_fingerprint":"fp_06","choices":[{"index":0,"delta":{},"logprobs":null,\
"finish_reason":"stop"}],"usage":null,"obfuscation":"x1"}

data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741570000,"model":"gpt-4o-mini-2024-07-18",\
"service_tier":"default","system_fingerprint":"fp_06","choices":[],"usage":{"prompt_tokens":19,\
"completion_tokens":9,"total_tokens":28,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}},\
"obfuscation":""}

data: [DONE]

"""

# A reasoning model behind vLLM: `reasoning_content` before `content`, a stop reason of its own, usage at the end.
VLLM_STREAM = """\
data: {"id":"chatcmpl-7c","object":"chat.completion.chunk","created":1752000000,"model":"Qwen/Qwen3-8B",\
"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-7c","object":"chat.completion.chunk","created":1752000000,"model":"Qwen/Qwen3-8B",\
"choices":[{"index":0,"delta":{"reasoning_content":"The handbook says fifteen."},"logprobs":null,\
"finish_reason":null}]}

data: {"id":"chatcmpl-7c","object":"chat.completion.chunk","created":1752000000,"model":"Qwen/Qwen3-8B",\
"choices":[{"index":0,"delta":{"content":"Fifteen"},"logprobs":null,"finish_reason":null}]}

data: {"id":"chatcmpl-7c","object":"chat.completion.chunk","created":1752000000,"model":"Qwen/Qwen3-8B",\
"choices":[{"index":0,"delta":{"content":" days."},"logprobs":null,"finish_reason":"stop","stop_reason":null}]}

data: {"id":"chatcmpl-7c","object":"chat.completion.chunk","created":1752000000,"model":"Qwen/Qwen3-8B",\
"choices":[],"usage":{"prompt_tokens":31,"total_tokens":44,"completion_tokens":13}}

data: [DONE]

"""

# Ollama repeats the role in every chunk, and `reasoning` stands where vLLM has `reasoning_content`.
OLLAMA_STREAM = """\
data: {"id":"chatcmpl-351","object":"chat.completion.chunk","created":1758000000,"model":"llama3.2",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"",\
"reasoning":"hm"},"finish_reason":null}]}

data: {"id":"chatcmpl-351","object":"chat.completion.chunk","created":1758000000,"model":"llama3.2",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"Fifteen"},\
"finish_reason":null}]}

data: {"id":"chatcmpl-351","object":"chat.completion.chunk","created":1758000000,"model":"llama3.2",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" days."},\
"finish_reason":null}]}

data: {"id":"chatcmpl-351","object":"chat.completion.chunk","created":1758000000,"model":"llama3.2",\
"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":""},\
"finish_reason":"stop"}]}

data: {"id":"chatcmpl-351","object":"chat.completion.chunk","created":1758000000,"model":"llama3.2",\
"system_fingerprint":"fp_ollama","choices":[],"usage":{"prompt_tokens":32,"completion_tokens":4,"total_tokens":36}}

data: [DONE]

"""

# llama.cpp: content null at first, timings beside the usage, a comment to keep alive, [DONE] without a blank line.
LLAMA_CPP_STREAM = """\
: ping

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}],\
"created":1750271648,"id":"chatcmpl-PZ","model":"qwen2.5-0.5b","system_fingerprint":"b6000-a414","object":\
"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Fifteen"}}],"created":1750271648,\
"id":"chatcmpl-PZ","model":"qwen2.5-0.5b","system_fingerprint":"b6000-a414","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" days."}}],"created":1750271648,\
"id":"chatcmpl-PZ","model":"qwen2.5-0.5b","system_fingerprint":"b6000-a414","object":"chat.completion.chunk"}

data: {"choices":[{"finish_reason":"length","index":0,"delta":{}}],"created":1750271648,"id":"chatcmpl-PZ",\
"model":"qwen2.5-0.5b","system_fingerprint":"b6000-a414","object":"chat.completion.chunk"}

data: {"choices":[],"created":1750271648,"id":"chatcmpl-PZ","model":"qwen2.5-0.5b","system_fingerprint":\
"b6000-a414","object":"chat.completion.chunk","usage":{"completion_tokens":3,"prompt_tokens":43,"total_tokens":46},\
"timings":{"prompt_n":43,"prompt_ms":246.082,"predicted_n":3,"predicted_ms":61.2}}

data: [DONE]
"""

# llama.cpp through 2025, when the prompt does not fit: a field that the standard of server-sent events ignores.
LLAMA_CPP_OLD_ERROR = """\
error: {"code":400,"message":"the request exceeds the available context size. try increasing the context size",\
"type":"invalid_request_error"}

data: [DONE]

"""

OPENAI_WHOLE = {
    "id": "chatcmpl-B9", "object": "chat.completion", "created": 1741569952, "model": "gpt-4.1-2025-04-14",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Fifteen days.", "refusal": None,
                                         "annotations": []},
                 "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
              "completion_tokens_details": {"reasoning_tokens": 0}},
    "service_tier": "default",
}

# (who, HTTP status, body, message that must be found, kind, retryable)
ERRORS = [
    ("openai: bad key", 401,
     '{"error": {"message": "Incorrect API key provided: sk-ab***yz. You can find your API key at '
     'https://platform.openai.com/account/api-keys.", "type": "invalid_request_error", "param": null, '
     '"code": "invalid_api_key"}}', "Incorrect API key provided", "auth", False),
    ("openai: no such model", 404,
     '{"error": {"message": "The model `gpt-9` does not exist or you do not have access to it.", '
     '"type": "invalid_request_error", "param": null, "code": "model_not_found"}}', "`gpt-9`", "model", False),
    ("openai: model not in the project", 403,
     '{"error": {"message": "Project `proj_x` does not have access to model `gpt-4o`", "type": '
     '"invalid_request_error", "param": null, "code": "model_not_found"}}', "proj_x", "model", False),
    ("openai: rate", 429,
     '{"error": {"message": "Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM)", "type": '
     '"tokens", "param": null, "code": "rate_limit_exceeded"}}', "Rate limit reached", "rate_limit", True),
    ("openai: no money", 429,
     '{"error": {"message": "You exceeded your current quota, please check your plan and billing details.", "type": '
     '"insufficient_quota", "param": null, "code": "insufficient_quota"}}', "quota", "rate_limit", False),
    ("openai: overload", 503,
     '{"error": {"message": "The engine is currently overloaded, please try again later", "type": "server_error", '
     '"param": null, "code": null}}', "overloaded", "server", True),
    ("vllm before 0.10", 404,
     '{"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "param": null, '
     '"code": 404}', "The model `x` does not exist.", "model", False),
    ("vllm", 400,
     '{"error": {"message": "This model\'s maximum context length is 4096 tokens.", "type": "BadRequestError", '
     '"param": null, "code": 400}}', "4096 tokens", "protocol", False),
    ("vllm: key", 401, '{"error": "Unauthorized"}', "Unauthorized", "auth", False),
    ("ollama", 404, '{"error": {"message": "model \\"x\\" not found, try pulling it first", "type": "api_error", '
     '"param": null, "code": null}}', 'model "x" not found', "model", False),
    ("ollama: native", 500, '{"error": "llama runner process has terminated: exit status 2"}', "llama runner",
     "server", True),
    ("ollama: wrong path", 404, "404 page not found\n", "404 page not found", "model", False),
    ("llama.cpp: loading", 503, '{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}',
     "Loading model", "server", True),
    ("llama.cpp: no embeddings", 501, '{"error": {"code": 501, "message": "This server does not support embeddings. '
     'Start it with `--embeddings`", "type": "not_supported_error"}}', "--embeddings", "server", False),
    ("fastapi", 422, '{"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]}',
     "body.messages: Field required", "protocol", False),
    ("fastapi: text", 404, '{"detail": "Not Found"}', "Not Found", "model", False),
    ("gemini", 400, '[{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]',
     "API key not valid.", "protocol", False),
    ("spring", 500, '{"timestamp": "2026-01-01", "status": 500, "error": "Internal Server Error", "path": "/v1"}',
     "Internal Server Error", "server", True),
    ("nginx", 502, "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>...</body></html>",
     "502 Bad Gateway", "server", True),
    ("html without title", 500, "<!DOCTYPE html><p>oops", "", "server", True),
    ("nothing", 500, "", "", "server", True),
    ("empty object", 400, "{}", "", "protocol", False),
    ("a JSON string", 400, '"no"', "no", "protocol", False),
    ("null", 400, "null", "", "protocol", False),
    ("out of credit", 402, '{"error": {"message": "Insufficient credits", "code": 402}}', "credits",
     "rate_limit", False),
    ("timeout of the server", 408, "", "", "server", True),
]
