"""Model names: of the endpoints of a namespace that go by one, the oldest keeps it, and each of the others is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reconcile.helpers import raw
from tests.reconcile.world import World
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.reconcile.claims import Claim, Claims, Taken, claim_of, explain
from zerotide.reconcile.pods import Stage

OLD, NEW = "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"


def claims(*made: Claim) -> Claims:
    """Return the claims, taken in one after another."""
    table = Claims()
    for claim in made:
        table.put(claim)
    return table


def test_the_older_keeps_the_name_whichever_comes_first() -> None:
    """Aliases are names as well; another namespace is another world."""
    old = Claim("demo/old", OLD, ("old", "chat"))
    new = Claim("demo/new", NEW, ("chat", "new"))
    far = Claim("far/new", OLD, ("chat",))
    for order in ((old, new, far), (far, new, old)):
        table = claims(*order)
        assert table.taken("demo/old") == () == table.taken("far/new")
        assert table.taken("demo/new") == (Taken("chat", "old"),)
    table = claims(new, old)
    assert table.put(old) == set(), "nothing changed"
    assert table.drop("demo/old") == {"demo/new"}
    assert table.taken("demo/new") == ()
    assert table.put(old) == {"demo/new"}
    assert table.put(replace(old, names=("old",))) == {"demo/new"}, "a name that is given up concerns the other"
    assert table.taken("demo/new") == ()


def test_of_two_of_the_same_second_neither_keeps_it() -> None:
    """The API server's stamps are no finer, and requests that name it are refused as ambiguous."""
    table = claims(*(Claim(f"demo/{name}", OLD, ("chat",)) for name in "ba"), Claim("demo/c", NEW, ("chat",)))
    assert table.taken("demo/a") == (Taken("chat", "b", tied=True),)
    assert table.taken("demo/b") == (Taken("chat", "a", tied=True),)
    assert table.taken("demo/c") == (Taken("chat", "a"),)
    assert "made in the same second" in explain(table.taken("demo/a"))


def test_an_endpoint_that_goes_claims_nothing() -> None:
    """From its deletion on, whatever finalizers keep of it."""
    spec = {"model": {"uri": "image:///m", "name": "chat", "aliases": ["talk", "chat"]}}
    assert claim_of(raw(spec, creationTimestamp=OLD)) == Claim("demo/a", OLD, ("chat", "talk"))
    assert claim_of(raw(spec, creationTimestamp=OLD, deletionTimestamp=NEW)) is None


def test_a_claim_is_what_requests_are_routed_by() -> None:
    """Every name of the parsed endpoint, in the same order."""
    for model in ({}, {"name": "chat"}, {"name": "chat", "aliases": ["talk", "a"]}, {"aliases": ["talk"]}):
        obj = raw({"model": {"uri": "image:///m", **model}})
        claim = claim_of(obj)
        assert claim is not None and claim.names == InferenceEndpoint.parse(obj).model_names


made = st.builds(
    Claim,
    key=st.sampled_from(["x/a", "x/b", "x/c", "y/a"]),
    created=st.sampled_from([OLD, NEW]),
    names=st.lists(st.sampled_from(["m", "n", "o"]), min_size=1, unique=True).map(tuple),
)


@given(st.lists(st.one_of(made, st.sampled_from(["x/a", "x/b", "x/c", "y/a"])), max_size=12))
def test_nobody_shares_a_name_untold_and_everyone_concerned_is_looked_at(changes: list[Claim | str]) -> None:
    """At most one endpoint of a namespace goes by a name without being told; whose answer changes is named."""
    table, known = Claims(), dict[str, Claim]()
    for change in changes:
        before = {key: table.taken(key) for key in known}
        key = change.key if isinstance(change, Claim) else change
        if isinstance(change, Claim):
            concerned = table.put(change)
            known[key] = change
        else:
            concerned = table.drop(key)
            known.pop(key, None)
        assert {other for other in known if other != key and table.taken(other) != before[other]} <= concerned
        for name in "mno":
            for space in "xy":
                of_name = [claim for claim in known.values() if claim.key[0] == space and name in claim.names]
                untold = [claim for claim in of_name if name not in {taken.name for taken in table.taken(claim.key)}]
                assert len(untold) <= 1
                assert all(claim.created == min(other.created for other in of_name) for claim in untold)


def conditions(world: World) -> str:
    """Return the statuses of the five conditions as T and F."""
    return "".join(item["status"][0] for item in world.status["conditions"])


def test_an_endpoint_without_its_name_is_told_and_goes_on() -> None:
    """Not Ready, since it is not what its spec asks for; awake and asleep by host and path like any other."""
    world = World(names_taken=(Taken("chat", "old"),))
    world.settle()
    ready = world.condition("Ready")
    assert conditions(world) == "FTFFF" and ready["reason"] == "ModelNameConflict"
    assert ready["message"].startswith("the older endpoint old keeps the model name 'chat': call this endpoint by")
    assert world.status["state"] == "Asleep" and world.condition("Accepting")["reason"] == "NeverServed"
    world.wish("w1")
    world.step()
    world.run_pods()
    world.settle()
    assert conditions(world) == "FTTFF" and world.status["state"] == "Awake"
    assert [warning.message for warning in world.warnings.values()] == [ready["message"]], "one Event"
    world.names_taken = ()
    world.settle()
    assert conditions(world) == "TTTFF" and world.condition("Ready")["reason"] == "Serving"
    world.names_taken = (Taken("chat", "old"),)
    world.pass_time(1)
    world.settle()
    assert [warning.reason for warning in world.warnings.values()] == ["ModelNameConflict"] * 2


def test_what_served_is_remembered_beside_the_name() -> None:
    """Ready speaks of the name; that it has served before is known all the same."""
    world = World(names_taken=(Taken("chat", "old"),))
    world.spec(scaling={"pinnedReplicas": 1})
    world.settle()
    world.run_pods()
    world.settle()
    world.spec(scaling={})
    world.pass_time(3600)
    world.settle()
    world.pods = ()
    world.settle()
    assert world.condition("Accepting")["reason"] == "ScaledToZero"


@pytest.mark.parametrize("spec", [{"podTemplate": {"spec": {"hostPID": True}}}, {"suspend": True}])
def test_what_is_not_served_at_all_is_told_first(spec: dict[str, object]) -> None:
    """A name matters to requests that could be served."""
    world = World(obj=raw(spec), names_taken=(Taken("chat", "old"),))
    world.settle()
    assert world.condition("Ready")["reason"] in ("PodRefused", "Suspended")
    assert "ModelNameConflict" not in {warning.reason for warning in world.warnings.values()}


def test_a_start_that_fails_is_told_instead_of_the_name() -> None:
    """And the name again when the start is mended."""
    world = World(names_taken=(Taken("chat", "old"),))
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.SCHEDULED, waiting="InvalidImageName", waiting_message="bad")
    world.pass_time(1)
    world.step()
    assert world.condition("Ready")["reason"] == "ImagePullFailed" and conditions(world) == "FFFFT"
    world.run_pods()
    world.step()
    assert world.condition("Ready")["reason"] == "ModelNameConflict" and conditions(world) == "FTTFF"
    world.run_pods(Stage.SCHEDULED, waiting="InvalidImageName", waiting_message="bad")
    world.pass_time(1)
    world.step()
    told = [reason for reason, _ in world.warnings]
    assert told.count("ImagePullFailed") == 2, "each failure is told, though Ready was False all the time"
    assert told.count("ModelNameConflict") == 1
