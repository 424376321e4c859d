"""Who pays for a start does not depend on the quarter that is looked at, nor on when what decides it became known."""

from __future__ import annotations

import pytest

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from tests.exporter.test_sealing import GRACE, PRICES, START, charged, seal, sound
from tests.exporter.test_stores import ENDPOINT, AnyStore, Open, lived, opened, server, uid
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.compose import cost_report
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import Wake, folded
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey, added
from zerotide.exporter.sealer import rated

__all__ = ["opened", "server"]

FIRST = (START - T0) / SECOND
"""Where the first quarter begins, in seconds after T0."""
EDGE = FIRST + QUARTER / SECOND
"""Where the second one does."""
LATER = START + 8 * QUARTER + GRACE


def at(seconds: float) -> int:
    """Return an instant so many seconds after the first edge between quarters."""
    return START + QUARTER + round(seconds * SECOND)


def pod(name: str, **times: float) -> list[Fact]:
    """Return the facts of a pod, in seconds after the first edge between quarters."""
    return lived(name, **{kind: EDGE + seconds for kind, seconds in times.items()})


def served(
    number: str, who: str, pod: str, begun: float, ended: float | None, wake_id: str = ""
) -> list[Intent | Settlement]:
    """Return the records of a request, in seconds after the first edge between quarters."""
    begin = intent(number, forwarded_us=at(begun), pod_uid=uid(pod), consumer=f"demo/{who}", wake_id=wake_id)
    return [begin] if ended is None else [begin, settlement(number, ended_us=at(ended))]


def woken(store: AnyStore, rule: str) -> None:
    """Give the endpoint a rule, and tell of a wake of 20 minutes, `w1`, and of one an hour before it, `w0`."""
    store.add_endpoint(ENDPOINT._replace(cold_start=rule, split="Equal", floor=0))
    for wake_id, begun, length in (("w0", -4200, 60), ("w1", -600, 1200)):
        store.add_wake(Wake("e", wake_id, "demo", "smollm2", at(begun), "Request", length * SECOND, ()))


def starts(found: dict[ChargeKey, Line]) -> dict[str, float]:
    """Return the seconds of starts that each consumer pays for."""
    paid: dict[str, float] = {}
    for key, line in found.items():
        if key.line.phase in ("provisioning", "loading"):
            paid[key.line.consumer] = paid.get(key.line.consumer, 0) + float(line.quantity) / SECOND
    return paid


def by_quarters(store: AnyStore) -> dict[ChargeKey, Line]:
    """Return what eight quarters cost, each looked at by itself."""
    quarters = [Period(START + n * QUARTER, START + (n + 1) * QUARTER) for n in range(8)]
    return added(rated(store, PRICES, "", "", quarter, LATER) for quarter in quarters)


def whole(store: AnyStore) -> dict[ChargeKey, Line]:
    """Return what they cost, looked at together."""
    return rated(store, PRICES, "", "", Period(START, START + 8 * QUARTER), LATER)


def test_a_replica_that_is_over_decides_who_pays_for_another_that_still_loads(opened: Open) -> None:
    """One is lost before the quarter ends, after it served whoever woke both; the other loads on."""
    store = opened()
    woken(store, "Trigger")
    store.add_facts(pod("u1", created=-500, scheduled=-500, started=-490, ready=-300, finished=-100), T0)
    store.add_facts(pod("u2", created=-480, scheduled=-480, started=-470, ready=700, finished=1500), T0)
    store.add_usage([*served("1", "a", "u1", -290, -200, "w1"), *served("2", "b", "u2", 710, 720, "w1")], [], T0)
    assert starts(whole(store)) == {"demo/a": 200 + 1180}
    assert by_quarters(store) == whole(store)
    seal(store, LATER)
    assert charged(store) == whole(store)
    assert sound(store, LATER)


def test_a_replica_that_comes_next_decides_who_pays_for_one_that_never_served(opened: Open) -> None:
    """The first one crashes; its successor, made in the next quarter, serves whoever woke them."""
    store = opened()
    woken(store, "Trigger")
    store.add_facts(pod("u1", created=-500, scheduled=-500, started=-490, finished=-100), T0)
    store.add_facts(pod("u2", created=20, scheduled=20, started=25, ready=100, finished=1500), T0)
    store.add_usage(served("1", "a", "u2", 110, 120, "w1"), [], T0)
    assert starts(whole(store)) == {"demo/a": 400 + 80}
    assert by_quarters(store) == whole(store)
    seal(store, LATER)
    assert charged(store) == whole(store)
    assert sound(store, LATER)


def test_reports_of_quarters_add_up_to_that_of_all(opened: Open) -> None:
    store = opened()
    woken(store, "Trigger")
    store.add_facts(pod("u1", created=-500, scheduled=-500, started=-490, ready=-300, finished=-100), T0)
    store.add_facts(pod("u2", created=-480, scheduled=-480, started=-470, ready=700, finished=1500), T0)
    store.add_usage([*served("1", "a", "u1", -290, -200, "w1"), *served("2", "b", "u2", 710, 720, "w1")], [], T0)

    def paid(period: Period) -> dict[str, float]:
        ledgers = [folded(records, LATER) for records in store.records("demo", "smollm2", period)]
        report = cost_report(ledgers, PRICES, period, LATER)
        return {each.consumer: float(each.amount) for each in report.endpoints[0].consumers}

    halves = [paid(Period(START, START + QUARTER)), paid(Period(START + QUARTER, START + 8 * QUARTER))]
    for who, amount in paid(Period(START, START + 8 * QUARTER)).items():
        assert sum(half.get(who, 0) for half in halves) == pytest.approx(amount)


@pytest.mark.parametrize("named", ["w1", "w0", "own"])
def test_whoever_came_first_is_told_late_and_pays_for_all_that_one_wake_made(opened: Open, named: str) -> None:
    """Also for a replica that was made before the quarter from which on the late request bears."""
    store = opened()
    woken(store, "Trigger")
    store.add_facts(pod("u1", created=-100, scheduled=-100, started=-90, ready=-20, finished=1500), T0)
    store.add_facts(pod("u2", created=20, scheduled=20, started=25, ready=100, finished=1500), T0)
    store.add_usage(served("2", "b", "u2", 120, 130, "w1"), [], T0)
    seal(store, LATER)
    assert starts(charged(store)) == {"demo/b": 80 + 80}
    wake_id = uid("u2") if named == "own" else named
    store.add_usage(served("1", "a", "u2", 110, 115, wake_id), [], LATER)
    assert sound(store, LATER), "what is noted as late is no difference"
    seal(store, LATER + QUARTER)
    assert starts(charged(store)) == {"demo/a": 80 + 80}
    assert sound(store, LATER + QUARTER)


def test_a_replica_that_is_told_late_decides_too(opened: Open) -> None:
    """Its requests bear the name of an older wake, so that nothing but its birth says to which it belongs."""
    store = opened()
    woken(store, "Trigger")
    store.add_facts(pod("u1", created=-100, scheduled=-100, started=-90, ready=-20, finished=1500), T0)
    store.add_usage(served("1", "a", "u2", 110, 115, "w0"), [], T0)
    seal(store, LATER)
    assert set(starts(charged(store))) == {"demo/team"}
    store.add_facts(pod("u2", created=20, scheduled=20, started=25, ready=100, finished=1500), LATER)
    seal(store, LATER + QUARTER)
    assert starts(charged(store)) == {"demo/a": 80 + 80}
    assert sound(store, LATER + QUARTER)


def test_a_request_whose_end_never_comes_leaves_no_difference(opened: Open) -> None:
    """Its activator was lost with its log, while the start that it might have shared in was being sealed."""
    store = opened()
    woken(store, "ProRata")
    store.add_facts(pod("u1", created=-500, scheduled=-500, started=-490, ready=-300), T0)
    store.add_usage([*served("1", "a", "u1", -290, -280), *served("2", "b", "u1", 3590, None)], [], T0)
    seal(store, at(3600))
    assert starts(charged(store)) == {"demo/a": 200}
    assert sound(store, at(3600))
    assert sound(store, at(3630))
    seal(store, LATER)
    assert sound(store, LATER)
