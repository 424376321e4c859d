"""What a slice keeps of what was used, until the ledger has it."""

from __future__ import annotations

from zerotide.activator.admission.naming import Name
from zerotide.activator.quota.office import Log, Office, Process
from zerotide.activator.quota.slices import TOKENS, Slice, Use
from zerotide.activator.usage.lines import NOWHERE, Mark
from zerotide.api.quota import Ask, Grants

BUDGET = Name("demo", "month")


async def _silent(ask: Ask) -> Grants:
    raise AssertionError("nothing is asked here")


def test_what_was_used_while_the_disk_took_nothing_is_kept_until_it_is_shipped_and_no_longer() -> None:
    """It has no place in the log until the disk takes it; what is used after it is not kept for ever either."""
    place = [Mark(1, 100)]
    log = Log(lambda: place[0], lambda: True, False, lambda: False)
    office = Office(Process("a", "0", 1), log, _silent, lambda: 0.0, lambda: 1)
    office.slices[BUDGET] = found = Slice()
    found.renew(1000, TOKENS, 10.0)

    def use(tokens: int) -> None:
        assert office.take(BUDGET, Use(tokens, 0)) == tokens
        office.settle(BUDGET, tokens, Use(tokens, 0))

    use(1)
    place[0] = NOWHERE
    use(20)
    assert found.unshipped == 21
    office.shipped(Mark(1, 100))
    assert found.unshipped == 20, "the disk takes nothing yet"
    place[0] = Mark(1, 300)
    use(300)
    office.shipped(Mark(1, 250))
    assert found.unshipped == 320, "where it lies now is not shipped yet"
    office.shipped(Mark(1, 300))
    assert (found.unshipped, found.kept) == (0, 0)
