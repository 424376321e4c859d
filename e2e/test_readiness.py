"""The real runtime under the real chart: ready by a token, and a roll-out that generates none."""

from __future__ import annotations

import re

from openai import OpenAI

from e2e.harness import TRIVIAL, Json, System, smollm2, wait_until
from zerotide.api.names import CONDITION_TOKEN

TOKEN = {"readiness": {"type": "Token"}}


def conditions(obj: Json) -> dict[str, Json]:
    """Return the conditions of an object by type."""
    return {each["type"]: each for each in (obj.get("status") or {}).get("conditions") or []}


def find_model(system: System, namespace: str) -> Json:
    """Return what the status tells of the model, once it has a digest."""
    model: Json = system.status(namespace, "proven").get("model") or {}
    return model if re.fullmatch("sha256:[0-9a-f]{64}", model.get("digest", "")) else {}


def test_ready_by_a_token(system: System) -> None:
    """A cold request is answered, the pod says why it is ready, and what generates nothing takes nobody's place."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    spec = smollm2(idle="2m")
    spec["runtime"] |= TOKEN
    spec |= {"start": {"deadline": "20s"}, "hold": {"coldTimeout": "5m"}}
    system.endpoint(namespace, "proven", spec)
    client = OpenAI(base_url=system.url(namespace, "proven", "/v1"), api_key=key, max_retries=0)

    def capital() -> str:
        answer = client.completions.create(
            model="proven", prompt="The capital of France is", max_tokens=4, temperature=0
        )
        return answer.choices[0].text

    assert "Paris" in capital()
    assert system.wait_state(namespace, "proven", "Awake")["readyReplicas"] == 1
    model = wait_until("the model is told", lambda: find_model(system, namespace), timeout=20)
    assert model["uri"] == spec["model"]["uri"] and model["bytes"] > 100_000_000
    assert system.status(namespace, "proven")["lastWake"]["cause"] == "Request", "it comes with the same record"
    (pod,) = system.pods(namespace, "proven")
    told = conditions(pod)
    assert (told[CONDITION_TOKEN]["reason"], told["Ready"]["status"]) == ("TokenGenerated", "True")
    # It answers 200 "ok" to everything, /health included.
    spec["runtime"] |= {"image": TRIVIAL}
    system.endpoint(namespace, "proven", spec)

    def stuck() -> str:
        message = system.condition(namespace, "proven", "Ready").get("message", "")
        return message if "had generated no token" in message else ""

    said = wait_until("the roll-out is stuck", stuck, timeout=90)
    assert "serving an older spec" in said and "POST /v1/completions: 200: ok" in said
    assert "Paris" in capital()
    assert pod["metadata"]["uid"] in [each["metadata"]["uid"] for each in system.pods(namespace, "proven")]
