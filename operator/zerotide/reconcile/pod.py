"""Render the pod of a replica: the engine's container under restricted security, then the user's podTemplate.

A volume costs a wake 0.3 s, because the kubelet waits for mounts in steps: a pod gets none unless its weights,
or the processes of a sharded engine, need one. The token of the ServiceAccount is never mounted.
"""

from __future__ import annotations

from typing import Any

from zerotide.api import names
from zerotide.api.endpoint import Engine, EnvVar, InferenceEndpoint
from zerotide.reconcile import policy
from zerotide.reconcile.config import Config
from zerotide.reconcile.devices import Device
from zerotide.reconcile.engines import Adapter, Launch, Order, launch
from zerotide.reconcile.failures import ClassNotAllowed, InvalidMerge, NoImage, SharedAccelerators, TooManyAccelerators
from zerotide.reconcile.merge import merge
from zerotide.reconcile.source import Source, source_of_model

_CACHE = "/cache"
_GATE = {"conditionType": names.CONDITION_TOKEN}
_SHARED = {"Partition": "a part of a device, of which a process sees one", "TimeSlice": "a turn on a device"}
USER = 65532
"""The user and group of a model's processes; images need not know it."""

Object = dict[str, Any]


def service_account(endpoint: InferenceEndpoint) -> str:
    """Return the name of the pods' ServiceAccount."""
    return endpoint.spec.runtime.service_account_name or endpoint.metadata.name


def template(endpoint: InferenceEndpoint, config: Config, device: Device | None) -> Object:
    """Return the pod template of an endpoint on a choice of accelerators, None for the CPU.

    Raises RenderError where the spec makes no valid, allowed pod.
    """
    spec = _merged(endpoint, config, device)
    extra = endpoint.spec.pod_template.metadata if endpoint.spec.pod_template else None
    policy.check(endpoint.spec, spec, config.policy, extra.annotations if extra else None)
    labels = names.labels(endpoint.metadata.name, model=endpoint.spec.runtime.engine.value)
    if device is not None and device.class_name:
        labels[names.LABEL_ACCELERATOR_CLASS] = device.class_name
    metadata: Object = {
        "labels": {**((extra and extra.labels) or {}), **labels},
        "finalizers": [names.FINALIZER_LEDGER],
    }
    annotations = dict((extra and extra.annotations) or {})
    if device is not None and device.spec.part_of is not None:
        annotations[names.ANNOTATION_ACCELERATOR_PART] = device.spec.part_of.text
    if annotations:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": spec}


def _merged(endpoint: InferenceEndpoint, config: Config, device: Device | None) -> Object:
    base = _pod(endpoint, config, device)
    patch = endpoint.spec.pod_template.spec if endpoint.spec.pod_template else None
    spec = merge(base, patch) if patch else base
    if not any(container.get("name") == names.CONTAINER_MODEL for container in spec.get("containers") or []):
        raise InvalidMerge(f"podTemplate.spec.containers must keep the container {names.CONTAINER_MODEL}")
    if spec.get("restartPolicy", "Always") != "Always":
        raise InvalidMerge("podTemplate.spec.restartPolicy must be Always, as in any Deployment")
    if endpoint.spec.runtime.readiness.type == "Token":
        # After the merge, which replaces the list.
        others = [gate for gate in spec.get("readinessGates") or [] if gate != _GATE]
        spec["readinessGates"] = [*others, _GATE]
    return spec


def _pod(endpoint: InferenceEndpoint, config: Config, device: Device | None) -> Object:
    spec = endpoint.spec
    source = source_of_model(spec.model)
    order = Order(
        uri=source.uri,
        name=endpoint.model_name,
        port=spec.runtime.port,
        repository=source.repository,
        revision=source.revision,
        path=source.path,
        aliases=spec.model.aliases,
        adapters=tuple(
            Adapter(adapter.name, found.uri, found.repository, found.revision, found.path)
            for adapter, found in zip(spec.model.adapters, source.adapters, strict=True)
        ),
        accelerators=device.count if device else 0,
        memory_share=device.memory_share if device else None,
        max_body_bytes=spec.request.max_body_bytes.units,
        args=spec.runtime.args,
        cache=_CACHE if spec.cache.claim else "",
    )
    made = launch(spec.runtime.engine, order)
    security: Object = {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    volumes = [*source.volumes]
    if spec.cache.claim:
        volumes.append({"name": "cache", "persistentVolumeClaim": {"claimName": spec.cache.claim}})
        # Else the kubelet looks at every file that was ever kept, at each start.
        security["fsGroupChangePolicy"] = "OnRootMismatch"
    if volumes:
        security["fsGroup"] = USER
    if made.shared_memory:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    pod: Object = {
        "serviceAccountName": service_account(endpoint),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": -(-spec.drain.timeout.us // 1_000_000),
        "securityContext": security,
        "containers": [_container(endpoint, config, source, made, device)],
    }
    if volumes:
        pod["volumes"] = volumes
    if device is not None:
        pod.update(_place(device))
    return pod


def _place(device: Device) -> Object:
    """Return what leads a pod to nodes that have the devices."""
    if not device.allowed:
        raise ClassNotAllowed(
            f"accelerator.className: endpoints of this namespace may not use {device.class_name}: "
            "name another class, or have namespaceSelector of the AcceleratorClass, or the namespace's labels, changed"
        )
    most = device.spec.max_count
    if most is not None and device.count > most:
        raise TooManyAccelerators(
            f"accelerator.count: a node has at most {most} of {device.class_name}, not {device.count}: "
            "ask for fewer, or have maxCount of the AcceleratorClass raised"
        )
    if device.spec.sharing != "Exclusive" and device.count > 1:
        raise SharedAccelerators(
            f"accelerator.count: a replica can use one {device.class_name} only, not {device.count}, since it is "
            f"{_SHARED[device.spec.sharing]}: ask for 1, or for a class of whole devices"
        )
    # Nodes that have devices are often tainted by the name of their resource.
    own: Object = {"key": device.spec.resource_name, "operator": "Exists", "effect": "NoSchedule"}
    place: Object = {"tolerations": [own, *(each.dump() for each in device.spec.tolerations)]}
    if device.spec.node_selector:
        place["nodeSelector"] = dict(device.spec.node_selector)
    if device.spec.runtime_class_name:
        place["runtimeClassName"] = device.spec.runtime_class_name
    return place


def _container(
    endpoint: InferenceEndpoint, config: Config, source: Source, made: Launch, device: Device | None
) -> Object:
    spec = endpoint.spec
    image = spec.runtime.image or config.images.get(spec.runtime.engine.value)
    if not image:
        raise NoImage(f"runtime.image: the installation names no image for the engine {spec.runtime.engine}: name one")
    security: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    if spec.runtime.engine is Engine.ZEROTIDE and source.local:
        security["readOnlyRootFilesystem"] = True
    container: Object = {
        "name": names.CONTAINER_MODEL,
        "image": image,
        "ports": [{"name": names.PORT_NAME_HTTP, "containerPort": spec.runtime.port, "protocol": "TCP"}],
        "env": _env(made, spec.runtime.env),
        "securityContext": security,
        "readinessProbe": {
            **_question(endpoint),
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if made.command:
        container["command"] = list(made.command)
    if made.args:
        container["args"] = list(made.args)
    if spec.model.secret_ref:
        container["envFrom"] = [{"secretRef": {"name": spec.model.secret_ref.name}}]
    if resources := _resources(endpoint, device):
        container["resources"] = resources
    mounts = [
        *source.mounts,
        *([{"name": "cache", "mountPath": _CACHE}] if spec.cache.claim else []),
        *([{"name": "shm", "mountPath": "/dev/shm"}] if made.shared_memory else []),
    ]
    if mounts:
        container["volumeMounts"] = mounts
    return container


def _question(endpoint: InferenceEndpoint) -> Object:
    """Return how the kubelet asks whether a replica can serve."""
    runtime = endpoint.spec.runtime
    if runtime.protocol == "GRPC":
        return {"grpc": {"port": runtime.port, "service": ""}}
    return {"httpGet": {"path": runtime.readiness.asked, "port": runtime.port}}


def _env(made: Launch, own: tuple[EnvVar, ...]) -> list[Object]:
    # The user's variables win over ours of the same name.
    named: dict[str, Object] = {name: {"name": name, "value": value} for name, value in made.env.items()}
    for variable in own:
        named[variable.name] = variable.dump()
    return list(named.values())


def _resources(endpoint: InferenceEndpoint, device: Device | None) -> Object:
    spec = endpoint.spec
    resources: dict[str, dict[str, str]] = {
        "requests": {name: str(amount) for name, amount in (spec.resources.requests or {}).items()},
        "limits": {name: str(amount) for name, amount in (spec.resources.limits or {}).items()},
    }
    if device is not None:
        for amounts in resources.values():
            amounts[device.spec.resource_name] = str(device.count)
    return {kind: amounts for kind, amounts in resources.items() if amounts}
