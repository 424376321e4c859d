"""Run a blocking store in one thread of its own, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from zerotide.exporter.errors import StoreUnavailable
from zerotide.exporter.store import Store

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Store)
Result = TypeVar("Result")


class Threaded(Generic[S]):
    """Own a store and the only thread that touches it; calls run one after another."""

    def __init__(self, executor: ThreadPoolExecutor, store: S) -> None:
        self._executor, self._store = executor, store
        self._closed = False
        self.failing = False
        """Whether the last write that was insisted upon has not been taken yet."""

    @classmethod
    async def open(cls, make: Callable[[], S], name: str) -> Threaded[S]:
        """Make the store in its thread; raise what making it raises."""
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        try:
            store = await asyncio.get_running_loop().run_in_executor(executor, make)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        return cls(executor, store)

    async def run(self, call: Callable[[S], Result]) -> Result:
        """Call with the store; a caller that is cancelled leaves the call to finish. Raises StoreError."""
        if self._closed:
            raise StoreUnavailable("the ledger is closed: the exporter is shutting down")
        return await asyncio.get_running_loop().run_in_executor(self._executor, call, self._store)

    async def insist(self, call: Callable[[S], Result]) -> Result:
        """Call until the store takes it, with back-off up to 5 s; for writes that can be repeated without effect.

        Raises StoreError other than StoreUnavailable, and StoreUnavailable once the store is closed.
        """
        failures = 0
        while True:
            try:
                result = await self.run(call)
            except StoreUnavailable as error:
                if self._closed:
                    raise
                failures += 1
                self.failing = True
                log.warning("the ledger takes no writes", extra={"error": str(error), "failures": failures})
                await asyncio.sleep(min(5.0, 0.1 * 2 ** min(failures, 6)))
            else:
                self.failing = False
                return result

    async def close(self) -> None:
        """Finish what was called before, then close the store and its thread."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._executor, self._store.close)
        self._executor.shutdown()
