"""Who calls, by a token: checked once, and remembered until it expires or the keys change."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import replace
from typing import NamedTuple

from zerotide.activator.access.keys import Keys, Load
from zerotide.activator.access.keyset import KeySet
from zerotide.activator.access.token import Token, read_token
from zerotide.activator.access.trust import Source, Trust
from zerotide.activator.admission.callers import Caller
from zerotide.activator.failures import KeysAwaited, KeysUnreachable, KeyUnknown, SignatureWrong, TokenRefused
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.scalars import SECOND

log = logging.getLogger(__name__)

REMEMBERED = 10_000
RECHECK_US = 60 * SECOND
"""After this time is looked again whether the keys are still the same, however long the token holds."""

Mark = tuple[bytes, Trust]
"""By what a token is remembered: its digest, and whose it was taken for."""


class Proven(NamedTuple):
    """A token whose signature was checked."""

    caller: Caller
    keys: KeySet
    """With which it was checked."""
    until_us: int


class Tokens:
    """All tokens that are remembered, and the keys of all issuers that were asked for."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.load: Load = _nowhere
        """How keys are read; set by who can."""
        self._keys: dict[Source, Keys] = {}
        self._proven: dict[Mark, Proven] = {}
        self.refused: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()

    def recall(self, text: str, trust: Trust, now_us: int) -> Caller | None:
        """Return who calls where that is remembered; None where the token has to be looked at."""
        return self._recall(_mark(text, trust), now_us)

    def _recall(self, mark: Mark, now_us: int) -> Caller | None:
        known = self._proven.get(mark)
        if known is None or now_us >= known.until_us:
            return None
        keys = self._keys_of(mark[1].source)
        if known.keys is not keys.current() or keys.overdue():
            return None
        return replace(known.caller, until_us=min(known.until_us, now_us + RECHECK_US))

    def find(self, text: str, trust: Trust, now_us: int, *, patient: bool) -> Caller | None:
        """Return who calls, None where the token is not good.

        Raises KeysAwaited, for a patient caller, where keys are on their way that may decide it; and
        credentials_missing where the keys cannot be had.
        """
        mark = _mark(text, trust)
        known = self._recall(mark, now_us)
        if known is not None:
            return known
        try:
            return self._judge(text, mark, now_us, patient)
        except TokenRefused as refused:
            self.refused[refused.reason] += 1
            log.debug("a token is refused", extra={"issuer": trust.issuer, "error": str(refused)})
            return None

    def keep(self, sources: Container[Source]) -> None:
        """Forget the keys of all other sources."""
        for source in [source for source in self._keys if source not in sources]:
            self._keys.pop(source).close()

    def close(self) -> None:
        """Read no keys any more."""
        self.keep(())

    def _judge(self, text: str, mark: Mark, now_us: int, patient: bool) -> Caller:
        token, trust = read_token(text), mark[1]
        until_us = token.check(trust, now_us)
        keys = self._keys_of(trust.source)
        known = keys.current()
        if patient and keys.overdue():
            raise KeysAwaited(keys.ready)
        if known is None:
            if patient and keys.look_again():
                raise KeysAwaited(keys.ready)
            raise Rejection(
                ErrorCode.CREDENTIALS_MISSING,
                "the token cannot be checked: the keys of its issuer cannot be had now",
            )
        try:
            token.prove(known.pick(token.kid, token.algorithm))
        except (KeyUnknown, SignatureWrong):
            if patient and keys.look_again():
                raise KeysAwaited(keys.ready) from None
            raise
        return self._remember(token, mark, known, until_us, now_us)

    def _remember(self, token: Token, mark: Mark, keys: KeySet, until_us: int, now_us: int) -> Caller:
        trust = mark[1]
        caller = Caller(
            namespace=trust.namespace,
            key_id="",
            consumer=f"{trust.namespace}/{token.consumer(trust.consumer_claim)}",
            endpoints=None,
            max_in_flight=None,
            until_us=min(until_us, now_us + RECHECK_US),
            trust=trust,
        )
        if len(self._proven) >= REMEMBERED:
            del self._proven[next(iter(self._proven))]
        self._proven[mark] = Proven(caller, keys, until_us)
        return caller

    def _keys_of(self, source: Source) -> Keys:
        keys = self._keys.get(source)
        if keys is None:
            keys = self._keys[source] = Keys(source, self.load, self._now, self._loaded)
        return keys

    def _loaded(self, outcome: str) -> None:
        self.loads[outcome] += 1


def _mark(text: str, trust: Trust) -> Mark:
    return hashlib.sha256(text.encode("latin-1", "replace")).digest(), trust


async def _nowhere(source: Source) -> bytes:
    raise KeysUnreachable(f"{source} cannot be read here")
