"""One chat request over the OpenAI protocol: send it, stream the answer, tell failures apart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from zerotide.cli.errors import CliError, Denied, GatewayError, Missing, StartFailed, TimedOut
from zerotide.cli.sse import Comment, Data, EventReader

TIMED_OUT = {"hold_timeout", "endpoint_cold", "upstream_timeout", "unschedulable"}
ADVICE = {
    "invalid_api_key": "make a key with `zerotide key create`, and give it with --key or ZEROTIDE_API_KEY",
    "forbidden": "the key does not open this endpoint; see `zerotide key list`",
    "suspended": "`zerotide resume` ends the suspension",
    "queue_full": "try again later, or raise spec.hold.maxRequests",
    "hold_timeout": "the start goes on: try again, or raise spec.hold.coldTimeout",
    "unschedulable": "no node has room; `zerotide get` says what it waits for",
}


@dataclass
class Answer:
    """What came back, and how long it took; times are seconds since the request was sent."""

    text: str = ""
    cold: str = ""
    queue_ms: str = ""
    first_token: float | None = None
    total: float = 0.0
    usage: dict[str, Any] = field(default_factory=dict)
    chunks: int = 0


@dataclass(frozen=True)
class Question:
    """What is sent, and where."""

    url: str
    body: dict[str, Any]
    headers: dict[str, str]


def failure(status: int, body: Any, code: str = "") -> CliError:
    """Return the failure that an error answer stands for, in either protocol's shape, with what to do about it."""
    content = body.get("error") if isinstance(body, dict) else None
    if isinstance(content, dict):
        message, code = str(content.get("message") or ""), code or str(content.get("code") or "")
    else:
        message = str(content or body or "").strip()[:300]
        code = code or (str(body.get("error_type") or "") if isinstance(body, dict) else "")
    advice = ADVICE.get(code, "")
    sentence = message.rstrip(".") or f"HTTP {status}"
    text = f"{sentence} ({code or status})" + (f": {advice}" if advice else "")
    kind = _kind(status, code)
    if kind is StartFailed and not advice:
        text = f"{text}; see `zerotide get` and `zerotide logs`"
    error = kind(text)
    error.code = code or str(status)
    return error


def _kind(status: int, code: str) -> type[CliError]:
    if status in (401, 402, 403):
        return Denied
    if status == 404:
        return Missing
    if code in TIMED_OUT:
        return TimedOut
    return StartFailed if (status == 500 and code) or code == "start_backoff" else GatewayError


async def ask(
    session: aiohttp.ClientSession,
    question: Question,
    on_text: Callable[[str], None],
    on_comment: Callable[[Comment], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Send the question and call back with each piece of the answer as it comes.

    Raises the CliError of `failure` for an error before or within the stream, and for a stream that breaks off.
    """
    started, answer = clock(), Answer()
    try:
        async with session.post(question.url, json=question.body, headers=question.headers) as response:
            answer.cold = response.headers.get("X-Zerotide-Cold-Start", "")
            answer.queue_ms = response.headers.get("X-Zerotide-Queue-Ms", "")
            if response.status >= 400:
                raise failure(response.status, await _body(response), response.headers.get("X-Zerotide-Error", ""))
            if response.content_type == "text/event-stream":
                await _stream(response, answer, on_text, on_comment, lambda: clock() - started)
            else:
                _whole(await _body(response), answer, on_text)
    except aiohttp.ClientError as error:
        raise GatewayError(f"{question.url} cannot be reached or broke off: {error}") from error
    answer.total = clock() - started
    if answer.first_token is None:
        answer.first_token = answer.total
    return answer


async def _body(response: aiohttp.ClientResponse) -> Any:
    text = await response.text(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _whole(body: Any, answer: Answer, on_text: Callable[[str], None]) -> None:
    try:
        answer.text = str(body["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        raise GatewayError(f"the answer is no chat completion: {str(body)[:200]}") from None
    answer.usage = body.get("usage") or {}
    on_text(answer.text)


async def _stream(
    response: aiohttp.ClientResponse,
    answer: Answer,
    on_text: Callable[[str], None],
    on_comment: Callable[[Comment], None],
    elapsed: Callable[[], float],
) -> None:
    reader = EventReader()
    async for chunk in response.content.iter_any():
        for event in reader.feed(chunk):
            if isinstance(event, Comment):
                _note(event, answer)
                on_comment(event)
            elif event.done:
                return
            else:
                piece = _piece(event, answer)
                if piece:
                    answer.first_token = elapsed() if answer.first_token is None else answer.first_token
                    answer.text += piece
                    answer.chunks += 1
                    on_text(piece)
    raise GatewayError("the answer broke off before its end")


def _note(comment: Comment, answer: Answer) -> None:
    """Take how long the request was held: its answer's head was sent before anybody knew."""
    phase = comment.phase()
    if phase is not None and not phase.held:
        answer.queue_ms = str(phase.elapsed_ms)


def _piece(event: Data, answer: Answer) -> str:
    try:
        body = event.json()
    except ValueError:
        raise GatewayError(f"the stream holds something that is no JSON: {event.text[:200]}") from None
    if not isinstance(body, dict):
        raise GatewayError(f"the stream holds something that is no completion: {event.text[:200]}")
    if body.get("error"):
        error = body["error"]
        status = error.get("status") if isinstance(error, dict) else body.get("status")
        raise failure(int(status or 500), body)
    answer.usage = body.get("usage") or answer.usage
    choices = body.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")
