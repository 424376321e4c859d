"""What test_clients.py has the text-generation client do; run by the interpreter of its own environment."""

from __future__ import annotations

import asyncio
import json
import sys

# It has an environment of its own.
from text_generation import AsyncClient, Client  # type: ignore[import-not-found]
from text_generation.types import Grammar, GrammarType  # type: ignore[import-not-found]

PROMPT = "The capital of France is"


def main(url: str) -> None:
    """Print everything the client saw, as JSON."""
    client = Client(url, timeout=60)
    answer = client.generate(PROMPT, max_new_tokens=2)
    pieces = list(client.generate_stream(PROMPT, max_new_tokens=3))
    sampled = client.generate(PROMPT, max_new_tokens=2, do_sample=True, temperature=0.9, top_p=0.9, seed=5)
    chat = client.chat([{"role": "user", "content": "What is the capital of France?"}], max_tokens=20, temperature=0.0)
    rich = client.generate(
        PROMPT, max_new_tokens=4, do_sample=True, temperature=1.5, best_of=2, top_n_tokens=2, typical_p=0.9
    )
    asked = {"truncate": 5, "stop_sequences": ["."], "decoder_input_details": True, "watermark": False}
    stopped = client.generate("Nothing to see here. " + PROMPT, max_new_tokens=9, **asked)
    digits = client.generate(PROMPT, max_new_tokens=20, grammar=Grammar(type=GrammarType.Regex, value="[0-9]{4}"))
    (*_, last) = client.generate_stream(PROMPT, max_new_tokens=2, top_n_tokens=3)
    function = {"name": "visit", "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}}}
    tool = client.chat(
        [{"role": "user", "content": "Visit Paris"}],
        max_tokens=60,
        temperature=0.0,
        tools=[{"type": "function", "function": function}],
        tool_choice="required",
    )
    errors = []
    for wrong in (
        {"max_new_tokens": 100_000},
        {"best_of": 3, "do_sample": True},
        {"grammar": Grammar(type="regex", value="(")},
    ):
        try:
            client.generate(PROMPT, **wrong)
        except Exception as refused:
            errors.append(f"{type(refused).__name__}: {refused}")
    said = {
        "text": answer.generated_text,
        "finish_reason": answer.details.finish_reason,
        "generated_tokens": answer.details.generated_tokens,
        "seed": answer.details.seed,
        "tokens": [token.text for token in answer.details.tokens],
        "pieces": [piece.token.text for piece in pieces],
        "streamed": pieces[-1].generated_text,
        "sampled_seed": sampled.details.seed,
        "chat": chat.choices[0].message.content,
        "async_text": asyncio.run(AsyncClient(url, timeout=60).generate(PROMPT, max_new_tokens=2)).generated_text,
        "best_of": [
            len(rich.details.best_of_sequences),
            len(rich.details.top_tokens),
            len(rich.details.top_tokens[0]),
            rich.details.generated_tokens,
        ],
        "stopped": [stopped.generated_text, stopped.details.finish_reason, stopped.details.prefill],
        "digits": digits.generated_text,
        "streamed_tops": [token.text for token in last.top_tokens],
        "called": tool.choices[0].message.tool_calls[0]["function"]["name"],
        "errors": errors,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
