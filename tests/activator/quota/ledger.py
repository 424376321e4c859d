"""An exporter on loopback that takes usage and gives quota slices: its real interface on a real ledger."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.billing.test_rating import gpu, index
from tests.exporter.fakeapi import FakeApi
from zerotide.api.budget import Budget
from zerotide.billing.budgets import window_of
from zerotide.billing.rating import Period
from zerotide.exporter.access import Access
from zerotide.exporter.board import Board
from zerotide.exporter.endpoints import wake_of
from zerotide.exporter.http import Interface
from zerotide.exporter.metrics import LedgerCollector, registry
from zerotide.exporter.quotas import QuotaDesk
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client, Credentials, Key
from zerotide.kube.clock import Clock

ACTIVATOR = "system:serviceaccount:zerotide-system:zerotide-activator"
NAMESPACE = "zerotide-system"


class Ledger:
    """Serve until left; `stop` and `start` do so in between, on the same port and the same file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "ledger.sqlite"
        self.token = folder / "exporter-token"
        self.token.write_text("activator-token")
        self.api = FakeApi()
        self.budgets: dict[Key, Budget] = {}
        self.timed: dict[Key, dict[int, Fraction]] = {}
        """What time has cost, by the start of the window."""
        self.prices = index(gpu())
        self.port = 0

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        await self.api.__aenter__()
        self.api.tokens["activator-token"] = {"username": ACTIVATOR, "audience": "zerotide-exporter"}
        self._client = Client(Credentials(self.api.url, None, lambda: "exporter"))
        await self._client.__aenter__()
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()
        await self._client.__aexit__(None, None, None)
        await self.api.__aexit__()

    async def start(self) -> None:
        """Listen."""
        clock = Clock()
        self.store: Any = await Threaded.open(lambda: SQLiteStore(self._path), "writer")
        self.desk = QuotaDesk(
            self._client, self.store, self.budgets.get, lambda: self.prices, self.timed.get, NAMESPACE, clock
        )
        interface = Interface(
            writer=self.store,
            reader=self.store,
            prices=lambda: self.prices,
            board=Board(lambda: self.prices, clock.now_us, dict, wake_of),
            access=Access(self._client, ACTIVATOR, "operator"),
            clock=clock,
            registry=registry(LedgerCollector({})),
            alive=str,
            ready=str,
            quotas=self.desk,
        )
        self._runner = web.AppRunner(interface.application(), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no more; what is in the ledger stays."""
        await self._runner.cleanup()
        await self.store.close()

    @property
    def exporter(self) -> tuple[str, Path]:
        """Return what an activator is told of it."""
        return f"http://127.0.0.1:{self.port}", self.token

    def budget(self, tokens: int, name: str = "hard", **spec: Any) -> dict[str, Any]:
        """Have a budget of tokens that is never passed, and return its object."""
        return self._budget(name, {"limit": {"type": "Tokens", "tokens": tokens}, **spec})

    def money(self, amount: str, name: str = "hard", currency: str = "USD") -> dict[str, Any]:
        """Have a budget of money that no request passes, of which time has used up nothing, and return its object."""
        limit = {"type": "Cost", "cost": {"amount": amount, "currency": currency}}
        obj = self._budget(name, {"limit": limit})
        window = window_of(self.budgets["demo", name].spec.window, Clock().now_us())
        self.timed["demo", name] = {window.start_us: Fraction(0)}
        return obj

    def _budget(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        obj = {
            "apiVersion": "zerotide.dev/v1alpha1",
            "kind": "Budget",
            "metadata": {"namespace": "demo", "name": name, "uid": name, "generation": 1},
            "spec": {"inFlight": "End", **spec},
        }
        self.budgets["demo", name] = Budget.parse(obj)
        return obj

    async def used(self) -> int:
        """Return the tokens that the ledger has."""
        usages = await self.store.run(lambda store: store.usage("demo", "", Period(0, 2**61)))
        return sum(usage.input + usage.output for usage in usages.values())

    async def held(self) -> int:
        """Return what is reserved."""
        return sum(hold.amount for hold in await self.store.run(lambda store: store.holds.all()))
