"""Who may call an internal route: one account, by a token that the API server vouches for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from zerotide.kube import Identity, KubeError

Review = Callable[[str], Awaitable[Identity | None]]
"""Returns who a token belongs to, None for nobody; raises KubeError when the API server cannot be asked."""


async def refuse(request: web.Request, review: Review, user: str, forbidden: str) -> web.Response | None:
    """Return the answer to anybody but `user`, None to that one; `forbidden` says what others are not, or may not."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return web.Response(status=401, text="send a token as `Authorization: Bearer …`\n")
    try:
        identity = await review(token.strip())
    except KubeError as error:
        return web.Response(status=503, text=f"the API server cannot be asked: {error}\n")
    if identity is None:
        return web.Response(status=401, text="the API server does not accept the token\n")
    if identity.username != user:
        return web.Response(status=403, text=f"{identity.username} {forbidden}\n")
    return None
