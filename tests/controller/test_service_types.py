"""On a real cluster: Services of either type, and an installation that changes its mind while endpoints live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.controller.rig import SYSTEM, Rig, trivial
from zerotide.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES, SERVICES

Object = dict[str, Any]
EXTERNAL = {"ZEROTIDE_SERVICE_TYPE": "ExternalName"}
GATEWAY = f"zerotide-gateway.{SYSTEM}.svc.cluster.local"


def of_type(type_: str) -> Callable[[Object | None], bool]:
    """Return whether a Service has that type."""
    return lambda found: found is not None and found["spec"]["type"] == type_


async def test_a_name_of_the_gateway_has_no_address(rig: Rig) -> None:
    """It is all there is, and once it is there nothing is written."""
    await rig.restart_operator(**EXTERNAL)
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    made = await rig.until(SERVICES, namespace, "a", of_type("ExternalName"))
    assert made is not None
    port = {"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"}
    assert (made["spec"]["externalName"], made["spec"]["ports"]) == (GATEWAY, [port])
    assert "clusterIP" not in made["spec"]
    await rig.client.patch(SERVICES, "a", namespace, {"spec": {"externalName": "elsewhere.example.org"}})
    put_back = await rig.until(
        SERVICES, namespace, "a", lambda found: found is not None and found["spec"]["externalName"] == GATEWAY
    )
    assert put_back is not None
    await rig.restart_operator(**EXTERNAL)
    await asyncio.to_thread(rig.processes.wait_ready, rig.operator)
    # A successor's first list has the first; it looks at the second, which comes later, after it or beside it.
    await rig.apply(namespace, "b", trivial())
    await rig.until(SERVICES, namespace, "b", of_type("ExternalName"))
    again = await rig.client.get(SERVICES, "a", namespace)
    assert again["metadata"]["resourceVersion"] == put_back["metadata"]["resourceVersion"]
    assert (await rig.client.list(ENDPOINT_SLICES, namespace)).items == []


async def test_a_living_fleet_changes_its_type_and_back(rig: Rig) -> None:
    """An address is given up and given again, and neither an object is made anew nor a replica touched."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"pinnedReplicas": 1}))
    await rig.state(namespace, "a", "Awake", timeout=60)
    first = await rig.until(SERVICES, namespace, "a", of_type("ClusterIP"))
    await rig.until(ENDPOINT_SLICES, namespace, "a", lambda found: found is not None)
    generation = (await rig.client.get(DEPLOYMENTS, "a", namespace))["metadata"]["generation"]

    await rig.restart_operator(**EXTERNAL)
    named = await rig.until(SERVICES, namespace, "a", of_type("ExternalName"))
    assert first is not None and named is not None
    assert named["spec"]["externalName"] == GATEWAY
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "internalTrafficPolicy"} & named["spec"].keys()
    await rig.until(ENDPOINT_SLICES, namespace, "a", lambda found: found is None)

    await rig.restart_operator()
    back = await rig.until(SERVICES, namespace, "a", of_type("ClusterIP"))
    assert back is not None and "externalName" not in back["spec"]
    assert back["spec"]["clusterIP"] and back["spec"]["ports"] == first["spec"]["ports"]
    slice_ = await rig.until(ENDPOINT_SLICES, namespace, "a", lambda found: found is not None)
    assert slice_ is not None and slice_["endpoints"][0]["addresses"]

    assert first["metadata"]["uid"] == named["metadata"]["uid"] == back["metadata"]["uid"]
    assert (await rig.client.get(DEPLOYMENTS, "a", namespace))["metadata"]["generation"] == generation
    status = await rig.state(namespace, "a", "Awake")
    assert status["url"] == f"http://a.{namespace}.svc"
