"""Requests that the runtime answers itself, in both protocols: what works and what is refused, streamed and not."""

from __future__ import annotations

from typing import Any, NamedTuple

PROMPT = "The capital of France is"
TALK: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY: dict[str, Any] = {"model": "smollm2", "messages": TALK, "temperature": 0, "max_tokens": 12}
TEXT: dict[str, Any] = {"model": "smollm2", "prompt": PROMPT, "temperature": 0, "max_tokens": 4}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "max_tokens": 24}
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


class Row(NamedTuple):
    """A request, and the status that both ways answer it with; `body` is bytes where it is no JSON."""

    name: str
    path: str
    body: Any
    status: int = 200


def tgi(name: str, status: int = 200, path: str = "/generate", **parameters: Any) -> Row:
    """Return a row of TGI's with these parameters."""
    return Row(name, path, {"inputs": PROMPT, "parameters": {"max_new_tokens": 4, **parameters}}, status)


def chat(name: str, status: int = 200, **fields: Any) -> Row:
    """Return a row of a greedy conversation with these fields."""
    return Row(name, "/v1/chat/completions", {**GREEDY, **fields}, status)


def text(name: str, status: int = 200, **fields: Any) -> Row:
    """Return a row of a greedy completion with these fields."""
    return Row(name, "/v1/completions", {**TEXT, **fields}, status)


TGI = (
    tgi("text"),
    tgi("details", details=True, top_n_tokens=3),
    tgi("stop string", details=True, stop=["Paris"]),
    tgi("seeded", details=True, temperature=0.7, seed=3),
    tgi("grammar", details=True, grammar={"type": "regex", "value": "[A-Z][a-z]{3}"}),
    tgi("list with the prompt", path="/"),
    tgi("stream", path="/generate_stream"),
    tgi("stream with details", path="/generate_stream", details=True, top_n_tokens=2),
    Row("stream at the root", "/", {"inputs": PROMPT, "stream": True, "parameters": {"max_new_tokens": 3}}),
    Row("tokens", "/tokenize", {"inputs": PROMPT}),
    Row("tokens of a conversation", "/chat_tokenize", {"messages": TALK}),
    Row("invocation of a text", "/invocations", {"inputs": PROMPT, "parameters": {"max_new_tokens": 3}}),
    tgi("no tokens", 422, max_new_tokens=0),
    tgi("too many tokens", 422, max_new_tokens=8190),
    tgi("top_p of 1", 422, top_p=1.0),
    tgi("five stop strings", 422, stop=["a", "b", "c", "d", "e"]),
    tgi("adapter", 422, adapter_id="x"),
    tgi("prefill of a stream", 422, "/generate_stream", decoder_input_details=True),
    tgi("a seed of a wrong type, streamed", 422, "/generate_stream", seed="yes"),
    Row("empty inputs", "/generate", {"inputs": ""}, 422),
    Row("no inputs", "/generate", {}, 422),
    Row("too long inputs", "/generate", {"inputs": "a " * 9000}, 422),
)
OPENAI = (
    chat("chat"),
    chat("chat with odds", logprobs=True, top_logprobs=2, max_tokens=3),
    chat("two seeded answers", n=2, temperature=0.7, seed=5, max_tokens=4),
    chat("chat in JSON", response_format={"type": "json_object"}, max_tokens=8),
    chat("streamed chat", stream=True),
    chat("streamed chat with usage", **USAGE),
    chat("streamed chat with odds", stream=True, logprobs=True, top_logprobs=1, max_tokens=3),
    chat("streamed function", stream=True, **CALL),
    text("completion"),
    text("completion with its prompt and odds", echo=True, logprobs=1),
    text("completion of tokens", prompt=[504, 3575, 282, 4649, 314], stop=["."]),
    text("streamed completion with usage", **USAGE),
    chat("a temperature of 9", 400, temperature=9),
    chat("five stop strings", 400, stop=["a", "b", "c", "d", "e"]),
    chat("no messages", 400, messages=[]),
    chat("a stream that is refused", 400, stream=True, top_p=2),
    chat("too many tokens", 400, max_tokens=9000),
    chat("an old kind of function", 400, functions=[{"name": "f"}]),
    text("suffix", 400, suffix="x"),
    Row("embeddings", "/v1/embeddings", {"model": "smollm2", "input": "x"}, 400),
)
