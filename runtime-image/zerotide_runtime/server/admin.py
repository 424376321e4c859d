"""What only the process's keeper may ask: to sleep, to wake up, and to take a model in.

The orders are obeyed over a Unix socket of the process's own, or with a token; without either set they are refused.
That the peer is this host proves nothing: meshes hand every connection over from there.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from zerotide_runtime.errors import ModelTaken, SettingsError, StartError
from zerotide_runtime.server.message import Handler, Request, Response, json_response
from zerotide_runtime.settings import read_adapters

LEVELS = ("1", "2")


@dataclass(frozen=True)
class Order:
    """A model to take in."""

    uri: str
    name: str | None
    aliases: tuple[str, ...]
    adapters: tuple[tuple[str, str], ...] = ()


class Keeper(Protocol):
    """Who carries the orders out."""

    @property
    def asleep(self) -> int:
        """The level at which the process sleeps, 0 while it does not."""
        ...

    async def sleep(self, level: int) -> None:
        """Let running answers finish, then give memory back; raise StartError where no model was taken in."""
        ...

    async def wake_up(self) -> None:
        """Return when requests are answered again."""
        ...

    async def adopt(self, order: Order) -> None:
        """Take a model in, and return when it answers; raise SettingsError or ModelTaken."""
        ...


class Admin:
    """The orders as routes."""

    def __init__(self, keeper: Keeper, token: str | None) -> None:
        self._keeper = keeper
        self._token = None if token is None else f"Bearer {token}".encode()
        self._orders: dict[str, Handler] = {
            "/sleep": self._sleep,
            "/wake_up": self._wake_up,
            "/admin/load": self._load,
        }
        self.table: dict[str, dict[str, Handler]] = {
            **{path: {"POST": self._guarded} for path in self._orders},
            "/is_sleeping": {"GET": self._is_sleeping},
        }

    async def trusted(self, request: Request) -> Response:
        """Answer a request that came over the keeper's own socket."""
        if request.path == "/is_sleeping":
            return await self._is_sleeping(request)
        order = self._orders.get(request.path)
        if order is None or request.method != "POST":
            return _refusal(404, f"There is no {request.method} {request.path} here.", "route_not_found")
        answer = await order(request)
        assert isinstance(answer, Response)
        return answer

    async def _guarded(self, request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        if self._token is None or not hmac.compare_digest(given, self._token):
            message = "Orders need the token of --admin-token as `Authorization: Bearer TOKEN`, or the --admin-socket."
            return _refusal(403, message, "forbidden")
        return await self.trusted(request)

    async def _is_sleeping(self, request: Request) -> Response:
        level = self._keeper.asleep
        return json_response(200, {"is_sleeping": level > 0, "level": level})

    async def _sleep(self, request: Request) -> Response:
        level = parse_qs(request.query).get("level", ["1"])[-1]
        if level not in LEVELS:
            message = f"level is {level!r}; it must be 1 (keep the weights mapped) or 2 (keep the process only)"
            return _refusal(400, message, "invalid_request")
        try:
            await self._keeper.sleep(int(level))
        except StartError as error:
            return _refusal(409, str(error), error.reason)
        return json_response(200, {"level": self._keeper.asleep})

    async def _wake_up(self, request: Request) -> Response:
        try:
            await self._keeper.wake_up()
        except StartError as error:
            return _refusal(409, str(error), error.reason)
        return json_response(200, {"level": 0})

    async def _load(self, request: Request) -> Response:
        try:
            await self._keeper.adopt(read_order(request.body))
        except ModelTaken as error:
            return _refusal(409, str(error), error.reason)
        except SettingsError as error:
            return _refusal(400, str(error), error.reason)
        return json_response(200, {"status": "ok"})


def read_order(body: bytes) -> Order:
    """Read what to take in; raise SettingsError."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("model"), str) or not content["model"]:
        raise SettingsError('the order must be JSON like {"model": "file:///models/a", "name": "a", "aliases": []}')
    name, aliases = content.get("name"), content.get("aliases", [])
    if not isinstance(name, str | None):
        raise SettingsError("`name` must be a string")
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise SettingsError("`aliases` must be a list of strings")
    adapters = content.get("adapters", [])
    if not isinstance(adapters, list) or not all(_names_adapter(adapter) for adapter in adapters):
        raise SettingsError('`adapters` must be a list of {"name": "a", "uri": "file:///adapters/a"}')
    pairs = read_adapters((adapter["name"], adapter["uri"]) for adapter in adapters)
    return Order(content["model"], name or None, tuple(aliases), pairs)


def _names_adapter(adapter: Any) -> bool:
    return isinstance(adapter, dict) and all(isinstance(adapter.get(key), str) for key in ("name", "uri"))


def _refusal(status: int, message: str, code: str) -> Response:
    return json_response(status, {"error": message, "error_type": code})
