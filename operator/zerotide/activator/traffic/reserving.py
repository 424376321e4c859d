"""Reserve tokens of budgets for a request before anything is woken or sent for it."""

from __future__ import annotations

from zerotide.activator.admission.naming import Name
from zerotide.activator.quota.bounds import bound_of
from zerotide.activator.quota.hold import Hold, Lender
from zerotide.activator.traffic.visit import Visit
from zerotide.api.errors import ErrorCode, Rejection


async def reserve(visit: Visit, names: tuple[Name, ...], lender: Lender | None) -> None:
    """Give a request its reservation.

    Raises budget_exhausted where there is no room, ledger_unavailable, or invalid_request where it has no bound.
    """
    shown = f"{names[0].name} of namespace {names[0].namespace}"
    if visit.way is not None:
        raise Rejection(
            ErrorCode.INVALID_REQUEST,
            f"budget {shown} is never passed, so tokens are reserved before a request is sent: this kind of request "
            "has no bound",
        )
    if lender is None:
        raise Rejection(
            ErrorCode.LEDGER_UNAVAILABLE, f"budget {shown} is never passed, and this activator has no usage log to it"
        )
    payload = visit.payload
    hold = Hold(lender, names, bound_of(payload.body, visit.path, payload.stream, shown))
    await hold.begin(payload.stream)
    visit.hold = hold
