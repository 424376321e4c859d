"""What test_clients.py has the text-generation client do; run by the interpreter of its own environment."""

from __future__ import annotations

import asyncio
import json
import sys

from text_generation import AsyncClient, Client  # type: ignore[import-not-found]  # it has an environment of its own

PROMPT = "The capital of France is"


def main(url: str) -> None:
    """Print everything the client saw, as JSON."""
    client = Client(url, timeout=60)
    answer = client.generate(PROMPT, max_new_tokens=2)
    pieces = list(client.generate_stream(PROMPT, max_new_tokens=3))
    sampled = client.generate(PROMPT, max_new_tokens=2, do_sample=True, temperature=0.9, top_p=0.9, seed=5)
    chat = client.chat([{"role": "user", "content": "What is the capital of France?"}], max_tokens=20, temperature=0.0)
    try:
        client.generate(PROMPT, max_new_tokens=100_000)
        error = "none"
    except Exception as refused:
        error = f"{type(refused).__name__}: {refused}"
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
        "error": error,
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
