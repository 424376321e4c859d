"""The request that every peer gets, byte for byte: a small chat as the openai client sends it."""

from __future__ import annotations

import json

# What openai's Python client sends beside the credential.
OPENAI = (
    "Accept: application/json",
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
    "Content-Type: application/json",
    "User-Agent: OpenAI/Python 3.54.0",
    "X-Stainless-Arch: x64",
    "X-Stainless-Async: false",
    "X-Stainless-Lang: python",
    "X-Stainless-OS: Linux",
    "X-Stainless-Package-Version: 3.54.0",
    "X-Stainless-Read-Timeout: 600",
    "X-Stainless-Retry-Count: 0",
    "X-Stainless-Runtime: CPython",
    "X-Stainless-Runtime-Version: 3.11.2",
)
FEW = ("Content-Type: application/json",)
# Knative's activator finds a revision by these; everybody gets them, so that all read the same bytes.
KNATIVE = ("Knative-Serving-Namespace: default", "Knative-Serving-Revision: r0")

QUESTION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]


def chat(key: str, model: str = "m", headers: tuple[str, ...] = OPENAI, **more: object) -> bytes:
    """Return the text of a chat request."""
    body = json.dumps({"messages": QUESTION, "model": model, "max_tokens": 16, "temperature": 0, **more}).encode()
    lines = (
        "POST /v1/chat/completions HTTP/1.1",
        "Host: gateway.example",
        *headers,
        *KNATIVE,
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(key: str, events: int, interval_us: int, model: str = "m") -> bytes:
    """Return the text of a streamed chat: so many events, so far apart."""
    return chat(key, model, stream=True, max_tokens=events, seed=interval_us)
