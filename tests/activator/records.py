"""Usage records, a log of them, and an exporter that takes them or not."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from zerotide.activator.usage.journal import read
from zerotide.api.usage import AnyRecord, Intent, Outcome, Settlement, decode


def intent(number: int, attempt: int = 1) -> Intent:
    """Make an intent."""
    return Intent(
        request_id=f"r{number}",
        attempt=attempt,
        namespace="demo",
        endpoint="m",
        endpoint_uid="u",
        consumer="demo/team-a",
        pod_uid="p",
        activator="act-0",
        model="m",
        stream=False,
        cold=False,
        accepted_us=1,
        forwarded_us=100 + number,
        request_bytes=10,
    )


def settlement(number: int, attempt: int = 1) -> Settlement:
    """Make a settlement."""
    return Settlement(
        request_id=f"r{number}",
        attempt=attempt,
        ended_us=200 + number,
        response_bytes=1,
        outcome=Outcome.COMPLETED,
        status=200,
    )


def everything(folder: Path) -> list[AnyRecord]:
    """Return the records of all segments."""
    return [record for path in sorted(folder.glob("*.ndjson")) for record in read(path)]


class Exporter:
    """An exporter that takes what it is sent, or not."""

    def __init__(self) -> None:
        self.taken: list[AnyRecord] = []
        self.batches = 0
        self.status = 204
        self.tokens: list[str] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take a batch."""
        self.batches += 1
        self.tokens.append(request.headers.get("Authorization", ""))
        body = await request.read()
        assert body.endswith(b"\n")
        if self.status == 204:
            self.taken += [decode(line) for line in body.splitlines()]
        headers = {"Location": str(request.url.with_path("/page"))} if self.status in (301, 302, 303) else {}
        return web.Response(status=self.status, text="" if self.status == 204 else "no", headers=headers)

    async def page(self, request: web.Request) -> web.Response:
        """Show what redirects lead to."""
        return web.Response(text="please log in")
