"""The clients, each as people use it, its patience aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import huggingface_hub
import openai
from huggingface_hub.errors import HfHubHTTPError, TextGenerationError

from tests.activator.clients.asks import Ask, Outcome

Driver = Callable[[str, str, Ask], Outcome]


class Hasty(openai.OpenAI):
    """The client that does not sleep before it retries; `told` is for how long it would have, in seconds."""

    told: list[float]

    def _calculate_retry_timeout(self, *args: Any, **options: Any) -> float:
        self.told.append(super()._calculate_retry_timeout(*args, **options))
        return 0.0


def with_openai(told: list[float]) -> Driver:
    """Return a driver of openai's client with one retry, which notes in `told` when it would have come back."""

    def ask_it(url: str, key: str, ask: Ask) -> Outcome:
        with Hasty(
            base_url=f"{url}{ask.path}/v1", api_key=key, max_retries=1, default_headers=ask.headers, timeout=30
        ) as client:
            client.told = told
            messages: Any = [{"role": "user", "content": ask.prompt}]
            try:
                if ask.stream:
                    parts = client.chat.completions.create(model=ask.model, messages=messages, stream=True)
                    return Outcome("".join(part.choices[0].delta.content or "" for part in parts))
                answer = client.chat.completions.create(model=ask.model, messages=messages)
                return Outcome(answer.choices[0].message.content or "")
            except openai.APIError as error:
                status = error.status_code if isinstance(error, openai.APIStatusError) else None
                return Outcome("", type(error).__name__, status, error.code, str(error))

    return ask_it


def with_hub(url: str, key: str, ask: Ask) -> Outcome:
    """Ask by huggingface_hub, for generated text: it sends no model's name."""
    with huggingface_hub.InferenceClient(model=url + ask.path, token=key, headers=ask.headers, timeout=30) as client:
        try:
            if ask.stream:
                return Outcome("".join(client.text_generation(ask.prompt, stream=True)))
            return Outcome(client.text_generation(ask.prompt))
        except (HfHubHTTPError, TextGenerationError) as error:
            # What an error_type of TGI's becomes tells the status in its cause, but not within a stream.
            answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
            status = answer.response.status_code if isinstance(answer, HfHubHTTPError) else None
            return Outcome("", type(error).__name__, status, None, str(error))
