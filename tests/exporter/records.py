"""Usage records for tests."""

from __future__ import annotations

from zerotide.api.usage import Intent, Outcome, Settlement, Tokens


def intent(
    request_id: str = "r1",
    *,
    forwarded_us: int,
    pod_uid: str = "u1",
    consumer: str = "demo/a",
    wake_id: str = "",
    adapter: str = "",
) -> Intent:
    """Return the intent of a request to demo/smollm2."""
    return Intent(
        request_id=request_id,
        attempt=1,
        namespace="demo",
        endpoint="smollm2",
        endpoint_uid="iep-uid",
        consumer=consumer,
        pod_uid=pod_uid,
        activator="activator-1",
        model="smollm2",
        adapter=adapter,
        stream=False,
        cold=bool(wake_id),
        wake_id=wake_id,
        accepted_us=forwarded_us,
        forwarded_us=forwarded_us,
        request_bytes=10,
    )


def settlement(
    request_id: str = "r1",
    *,
    ended_us: int,
    tokens: tuple[int, int, int] | None = (7, 3, 5),
    outcome: Outcome = Outcome.COMPLETED,
) -> Settlement:
    """Return the end of a request; tokens are input, cached, output."""
    return Settlement(
        request_id=request_id,
        attempt=1,
        ended_us=ended_us,
        response_bytes=10,
        tokens=Tokens(input=tokens[0], cached=tokens[1], output=tokens[2]) if tokens else None,
        outcome=outcome,
        status=200,
    )
