"""What the two protocols share: the model when it is there, admission, and the making of sequences."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zerotide_runtime.engine.constraint import Constraint
from zerotide_runtime.engine.embedding import Embedding
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.request import Event, Report, Sampling, Sequence
from zerotide_runtime.engine.text import Detokeniser, StopStrings
from zerotide_runtime.errors import NotReady, Overloaded
from zerotide_runtime.pooling import Pooling
from zerotide_runtime.server.generation import Generation, MakeSequence
from zerotide_runtime.server.grammar import Grammars
from zerotide_runtime.server.message import Request
from zerotide_runtime.server.telemetry import Telemetry
from zerotide_runtime.settings import Settings
from zerotide_runtime.startup import Startup

if TYPE_CHECKING:
    from zerotide_runtime.assets import Assets

PING_SECONDS = 15.0


@dataclass(frozen=True)
class Task:
    """One answer to generate, whichever protocol asked for it."""

    prompt: list[int]
    max_new_tokens: int
    sampling: Sampling
    stops: tuple[str, ...] = ()
    keep_stop: bool = False
    report: Report = field(default_factory=Report)
    constraint: Constraint | None = None
    salt: str = ""
    adapter: str = ""


@dataclass(frozen=True)
class Loaded:
    """The model as requests need it."""

    assets: Assets
    max_total_tokens: int
    grammars: Grammars


class Service:
    """The state of one serving process, as its handlers see it."""

    def __init__(self, settings: Settings, engine: Engine, startup: Startup) -> None:
        self.settings = settings
        self.startup = startup
        self._cache_tokens = 0
        self.telemetry = Telemetry(startup, engine.queue_sizes, lambda: (engine.committed_tokens(), self._cache_tokens))
        self.created = int(time.time())
        self.ready = False
        self.identity: dict[str, Any] = {}
        self.compute_type = "cpu"
        self.draining = False
        self._engine = engine
        self._in_hand = 0
        self._loaded: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()

    def provide(self, assets: Assets, max_total_tokens: int, cache_tokens: int) -> None:
        """Hand over the model's small files and its bounds; requests that wait for them go on."""
        self._cache_tokens = cache_tokens
        grammars = Grammars(assets, enabled=self.settings.grammars)
        self._loaded.set_result(Loaded(assets, max_total_tokens, grammars))

    def start_answering(self, device: str) -> None:
        """Note that the model is loaded, and on what kind of device."""
        self.compute_type = "cpu" if device == "cpu" else "gpu"
        self.ready = True

    @property
    def healthy(self) -> bool:
        """Tell whether requests are answered without delay."""
        return self.ready and not self.draining

    def admit(self, request: Request) -> None:
        """Count a generating request until it is over; raise Overloaded or NotReady."""
        if self.draining:
            raise NotReady("this server is stopping")
        if self._in_hand >= self.settings.max_concurrent:
            raise Overloaded("Model is overloaded")
        self._in_hand += 1
        request.on_finish(self._leave)

    def _leave(self) -> None:
        self._in_hand -= 1

    def longest_input(self, model: Loaded, pooling: Pooling) -> int:
        """Return how many tokens an input to embed may have."""
        # One position of the cache stays free, as it does behind every prompt.
        most = min(model.max_total_tokens, self._cache_tokens - 1)
        return min(most, pooling.most_tokens or most)

    async def model(self) -> Loaded:
        """Return the model, waiting for it where the process has only just begun."""
        return await asyncio.shield(self._loaded)

    def find(self, model: str) -> str | None:
        """Return the adapter that `model` names, as in model:adapter, "" for the model alone, None for another one."""
        if self._names(model):
            return ""
        base, colon, adapter = model.rpartition(":")
        return adapter if colon and adapter in dict(self.settings.adapters) and self._names(base) else None

    def _names(self, model: str) -> bool:
        """Tell whether a request that names `model` means this one.

        A gateway may put a namespace before the name; TGI's clients send placeholders.
        """
        known = {self.settings.model_name, *self.settings.aliases, "tgi", "dummy"}
        return model in known or model.rsplit("/", 1)[-1] == self.settings.model_name

    def generate(self, request: Request, model: Loaded, tasks: list[Task]) -> Generation:
        """Start to generate; it ends with the request at the latest."""

        def make(index: int, sink: Callable[[Event], None]) -> Sequence:
            task = tasks[index]
            return Sequence(
                prompt=task.prompt,
                max_new_tokens=task.max_new_tokens,
                end_tokens=model.assets.end_tokens,
                sampling=task.sampling,
                stops=StopStrings(task.stops, keep=task.keep_stop),
                text=Detokeniser(model.assets.codec),
                sink=sink,
                report=task.report,
                constraint=task.constraint,
                # What is computed with one adapter is of no use to another.
                salt=f"{task.adapter}:{task.salt}" if self.settings.prefix_caching else None,
                adapter=task.adapter,
            )

        return self._start(request, make, len(tasks))

    def embed(
        self, request: Request, model: Loaded, prompts: list[list[int]], pooling: Pooling, adapter: str
    ) -> Generation:
        """Start to embed; the sequences' vectors are there when all have finished."""

        def make(index: int, sink: Callable[[Event], None]) -> Embedding:
            return Embedding(
                prompt=prompts[index],
                max_new_tokens=1,
                end_tokens=model.assets.end_tokens,
                sampling=Sampling(),
                stops=StopStrings(()),
                text=Detokeniser(model.assets.codec),
                sink=sink,
                adapter=adapter,
                pooling=pooling,
            )

        return self._start(request, make, len(prompts))

    def _start(self, request: Request, make: MakeSequence, count: int) -> Generation:
        generation = Generation(self._engine, make, count)

        def close() -> None:
            if generation.cancel():
                self.telemetry.cancellations.add()

        request.on_finish(close)
        return generation


def random_seed() -> int:
    """Return a seed for requests that bring none."""
    return secrets.randbits(63)
