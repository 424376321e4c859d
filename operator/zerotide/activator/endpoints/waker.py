"""Ask the operator to wake an endpoint: one wake request per burst, over all activators.

The request is applied to the version of the object that was looked at, so of two activators that ask at once only
one is heard; the other looks again and finds that the wish stands. A client that leaves takes nothing back.

Where the operator follows the demand it has acted long before a wish is stored. Storing one costs the API server as
much as creating the pod, so there it comes a moment later: it only has to outlive the operator and the client. In a
burst of many endpoints it comes later by as much as they all take, and few are stored at a time, or wishes would stand
in the way of the wakes that they ask for.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress

from zerotide.activator.admission.naming import Name
from zerotide.activator.admission.profile import Profile, profile_of
from zerotide.activator.admission.waking import must_ask
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.endpoints.registry import Registry
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.failures import InvalidObject
from zerotide.api.names import MANAGER_ACTIVATOR
from zerotide.api.scalars import format_micro_time
from zerotide.kube import Client, Conflict, KubeError, NotFound, Object
from zerotide.kube.resources import INFERENCE_ENDPOINTS

log = logging.getLogger(__name__)

HEAD_START = 1.0
"""Seconds that an operator that follows the demand has before a wish is written, unless it ceases to follow."""
SHARE, LONGEST_SHARE = 0.04, 30.0
"""Seconds more for each endpoint that is asked for, and for all of them: a wake takes so much of an API server."""
AT_ONCE = 4
"""Wishes that are written at a time."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
PATIENCE = 60.0
"""Seconds for which an API server that does not answer is asked again although nobody waits any more."""


class Waker:
    """Write wake requests, one task per endpoint that needs one."""

    def __init__(
        self, client: Client, registry: Registry, me: str, now_us: Callable[[], int], unheard: asyncio.Event
    ) -> None:
        self._client, self._registry, self._me, self._now_us = client, registry, me, now_us
        self._unheard = unheard
        self._asking: dict[Name, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        registry.hooks.append(self)

    def want(self, endpoint: Endpoint) -> None:
        """Ask for a wake unless a wish stands already."""
        name = Name(endpoint.profile.namespace, endpoint.profile.name)
        asking = self._asking.get(name)
        # One that is over may still be listed for a moment: it asks for nothing any more.
        if (asking is not None and not asking.done()) or not must_ask(endpoint.profile):
            return
        task = self._asking[name] = asyncio.get_running_loop().create_task(self._ask(name, endpoint.profile.wake_id))

        def over(task: asyncio.Task[None]) -> None:
            if self._asking.get(name) is task:
                del self._asking[name]

        task.add_done_callback(over)

    async def settled(self, endpoint: Endpoint) -> None:
        """Return once no wish for an endpoint is about to be written."""
        task = self._asking.get(Name(endpoint.profile.namespace, endpoint.profile.name))
        if task is not None:
            await asyncio.wait([task])

    def changed(self, endpoint: Endpoint) -> None:
        """Ask again where an endpoint fell asleep while somebody waits."""
        if endpoint.awaited:
            self.want(endpoint)

    def gone(self, endpoint: Endpoint) -> None:
        """Stop asking for an endpoint that was deleted."""
        task = self._asking.get(Name(endpoint.profile.namespace, endpoint.profile.name))
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Stop asking."""
        for task in self._asking.values():
            task.cancel()

    async def _ask(self, name: Name, newest: str) -> None:
        """Write a wish, unless somebody else did since the wish `newest`."""
        loop = asyncio.get_running_loop()
        await self._give_way(HEAD_START)
        # How many are called in one burst is known by now.
        await self._give_way(min(SHARE * (len(self._asking) - 1), LONGEST_SHARE))
        give_up_at, pause = loop.time() + PATIENCE, FIRST_PAUSE
        while True:
            async with self._slots:
                if await self._try(name, newest, loop.time() > give_up_at):
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _give_way(self, seconds: float) -> None:
        """Leave so much time to an operator that follows the demand; none where nobody does, or ceases to."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._unheard.wait()

    async def _try(self, name: Name, newest: str, late: bool) -> bool:
        """Write the wish as things are now; return whether that is over, be it that nobody needs one any more."""
        while True:
            endpoint = self._registry.endpoints.get(name)
            # A wish is also the name of its wake: one that was quicker than its wish gets it all the same.
            if endpoint is None or endpoint.profile.blocked is not None:
                return True
            if not must_ask(endpoint.profile) and endpoint.profile.wake_id != newest:
                return True
            if late and not endpoint.awaited:
                return True
            profile = endpoint.profile
            try:
                self._learn(await self._apply(profile), endpoint)
                return True
            except Conflict:
                # Where there is nothing new to build on, the same wish would meet with the same conflict at once.
                if not await self._look_again(endpoint, profile):
                    return False
            except NotFound:
                return True
            except KubeError as error:
                log.warning("a wake request was not taken", extra={"endpoint": str(name), "error": str(error)})
                return False

    async def _apply(self, profile: Profile) -> Object:
        request = {"id": uuid.uuid4().hex, "time": format_micro_time(self._now_us()), "by": self._me}
        metadata = {
            "namespace": profile.namespace,
            "name": profile.name,
            "uid": profile.uid,
            "resourceVersion": profile.resource_version,
        }
        body = {"metadata": metadata, "status": {"wakeRequest": request}}
        return await self._client.apply(INFERENCE_ENDPOINTS, body, MANAGER_ACTIVATOR, subresource="status")

    async def _look_again(self, endpoint: Endpoint, before: Profile) -> bool:
        """Read an endpoint; tell whether another version of it is known now than before."""
        try:
            self._learn(await self._client.get(INFERENCE_ENDPOINTS, before.name, before.namespace), endpoint)
        except KubeError:
            return False
        return endpoint.profile.resource_version != before.resource_version

    def _learn(self, obj: Object, endpoint: Endpoint) -> None:
        """Take in what the API server answered, ahead of the watch."""
        try:
            profile = profile_of(InferenceEndpoint.parse(obj))
        except InvalidObject:
            return
        current = self._registry.endpoints.get(Name(profile.namespace, profile.name))
        if current is endpoint and profile.uid == endpoint.profile.uid:
            self._registry.set_profile(profile)
