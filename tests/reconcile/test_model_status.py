"""What the status tells of the model: no more than what is known of the weights that the spec names."""

from __future__ import annotations

from tests.reconcile.helpers import raw
from tests.reconcile.world import World, awake
from zerotide.api.demand import Weights
from zerotide.reconcile.observed import Told

DIGEST = f"sha256:{'0' * 64}"
COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"


def told(world: World, uri: str, **weights: object) -> None:
    """Have a runtime tell of its model."""
    world.told = Told(uri, Weights.model_validate(weights))
    world.settle()


def test_what_a_runtime_told_stays_while_the_weights_do() -> None:
    """Over restarts and changes of other fields; a model that lies elsewhere is another one."""
    world = awake()
    assert world.status["model"] == {"name": "a"}
    told(world, "image:///m", digest=DIGEST, bytes=538)
    known = {"name": "a", "uri": "image:///m", "digest": DIGEST, "bytes": 538}
    assert world.status["model"] == known
    world.told = None
    world.spec(hold={"maxRequests": 7})
    world.settle()
    assert world.status["model"] == known
    world.spec(model={"uri": "image:///m", "name": "b"})
    world.settle()
    assert world.status["model"] == {**known, "name": "b"}
    world.spec(model={"uri": "image:///n"})
    told(world, "image:///m", digest=DIGEST, bytes=538)
    assert world.status["model"] == {"name": "a"}, "what was told is about the one before"
    told(world, "image:///n", bytes=9)
    assert world.status["model"] == {"name": "a", "uri": "image:///n", "bytes": 9}


def test_a_commit_of_the_hub_is_known_before_any_start() -> None:
    """A branch is not: the runtime tells what it was when it was fetched."""
    pinned = World(obj=raw({"model": {"uri": f"hf://acme/m@{COMMIT}"}}))
    pinned.settle()
    assert pinned.status["model"] == {"name": "a", "uri": f"hf://acme/m@{COMMIT}", "revision": COMMIT}
    branch = awake(World(obj=raw({"model": {"uri": "hf://acme/m@main"}})))
    assert branch.status["model"] == {"name": "a"}
    told(branch, "hf://acme/m@main", revision=COMMIT, bytes=1)
    assert branch.status["model"]["revision"] == COMMIT
    told(branch, "hf://acme/m@main", revision=COMMIT[::-1], bytes=1)
    assert branch.status["model"]["revision"] == COMMIT[::-1]
