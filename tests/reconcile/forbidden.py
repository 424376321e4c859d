"""Specs that the pod policy refuses, and some that it lets pass: one table for the operator and for admission.

Each bad spec comes with the words that the admission policy uses of it, and those that the operator uses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Object = dict[str, Any]

BLOCK = "10.20.0.0/16"
"""Private addresses that endpoints' URLs may lead to."""
IMAGE = "zerotide/runtime:dev"
"""An image that the policy allows; so do the chart's defaults."""
FOLDER = "/srv/models"
"""The folder of the nodes that endpoints may read."""
UNCONFINED = {"type": "Unconfined"}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/model"


class Bad(NamedTuple):
    """A spec that is refused, and in which words."""

    spec: Object
    admission: str
    operator: str


def pod(**spec: Any) -> Object:
    """Return a podTemplate."""
    return {"podTemplate": {"spec": spec}}


def container(**fields: Any) -> Object:
    """Return a podTemplate with one field of the model's container."""
    return pod(containers=[{"name": "model", **fields}])


def beside(**fields: Any) -> Object:
    """Return a podTemplate with an init container."""
    return pod(initContainers=[{"name": "i", "image": IMAGE, **fields}])


def of_node(**mount: Any) -> Object:
    """Return a model in the node's folder, and a mount of the model's container."""
    return {"model": {"uri": f"file://{FOLDER}/m"}, **container(volumeMounts=[mount])}


def keys_at(host: str) -> Object:
    """Return who may call, by keys that are somewhere."""
    return {"access": {"auth": "JWT", "jwt": {"issuer": "i", "audiences": ["a"], "jwksURL": f"https://{host}/jwks"}}}


def elsewhere(host: str) -> Object:
    """Return what serves in an endpoint's place, somewhere."""
    return {"hold": {"fallback": {"url": f"https://{host}/v2"}}}


_HOST = "hostNetwork, hostPID, hostIPC and hostProcess must not be set"
_NODE = "a folder of the node must be mounted with readOnly: true"

REFUSED: dict[str, Bad] = {
    "an image outside the list": Bad(
        {"runtime": {"image": "evil.example/x:1"}},
        "image evil.example/x:1 is not allowed",
        "the image evil.example/x:1",
    ),
    "an image in podTemplate": Bad(
        container(image="evil.example/x:1"), "image evil.example/x:1 is not allowed", "the image evil.example/x:1"
    ),
    "an image of a sidecar": Bad(pod(containers=[{"name": "s", "image": "evil/s"}]), "image evil/s", "image evil/s"),
    "an image of an init container": Bad(beside(image="evil/y"), "image evil/y", "the image evil/y"),
    "an image as a volume": Bad(
        pod(volumes=[{"name": "v", "image": {"reference": "evil/z"}}]), "image evil/z", "the image evil/z"
    ),
    "a node path": Bad({"model": {"uri": "file:///etc"}}, "the node folder of file:///etc", "node path /etc"),
    "a folder beside the allowed one": Bad(
        {"model": {"uri": f"file://{FOLDER}2/m"}}, f"the node folder of file://{FOLDER}2/m", f"node path {FOLDER}2/m"
    ),
    "open access": Bad({"access": {"auth": "Open"}}, "Open is not allowed", "Open is not allowed"),
    "keys at the metadata service": Bad(
        keys_at("169.254.169.254"), "the address 169.254.169.254 is not public", "169.254.169.254 is neither public"
    ),
    "keys in the cluster": Bad(
        keys_at("10.96.0.1:8443"), "the address 10.96.0.1 is not public", "10.96.0.1 is neither public"
    ),
    "keys on loopback": Bad(keys_at("[::1]"), "the address ::1 is not public", "::1 is neither public"),
    "keys at a private address, wrapped": Bad(
        keys_at("[::ffff:10.0.0.1]"), "the address ::ffff:10.0.0.1 is not public", "::ffff:10.0.0.1 is neither public"
    ),
    "keys at an address of the site": Bad(keys_at("[fd00::1]"), "the address fd00::1", "fd00::1 is neither public"),
    "a fallback in the cluster": Bad(
        elsewhere("10.96.0.1"),
        "hold.fallback.url: the address 10.96.0.1 is not",
        "hold.fallback.url: 10.96.0.1 is neither",
    ),
    "a fallback on loopback": Bad(elsewhere("[::1]:8443"), "the address ::1 is not public", "::1 is neither public"),
    "a hostPath": Bad(
        pod(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), "hostPath is not allowed", "hostPath is not allowed"
    ),
    "a hostPath that is the model's": Bad(
        {
            "model": {"uri": f"file://{FOLDER}/m"},
            **pod(volumes=[{"name": "v", "hostPath": {"path": f"{FOLDER}/m"}}]),
        },
        "hostPath is not allowed",
        "hostPath is not allowed",
    ),
    "the model's folder, made where it is not": Bad(
        {
            "model": {"uri": f"file://{FOLDER}/m"},
            **pod(volumes=[{"name": "model", "hostPath": {"type": "DirectoryOrCreate"}}]),
        },
        "hostPath is not allowed",
        "hostPath is not allowed",
    ),
    "the model's folder to write to": Bad(of_node(name="model", mountPath="/w"), _NODE, _NODE),
    "the model's own mount to write to": Bad(of_node(mountPath="/models/m", readOnly=False), _NODE, _NODE),
    "the model's own mount without its mark": Bad(of_node(mountPath="/models/m", readOnly=None), _NODE, _NODE),
    "the model's folder to write to from an init container": Bad(
        {
            "model": {"uri": f"file://{FOLDER}/m"},
            **beside(volumeMounts=[{"name": "model", "mountPath": "/w"}]),
        },
        _NODE,
        _NODE,
    ),
    "the host's network": Bad(pod(hostNetwork=True), _HOST, "hostNetwork must not be set"),
    "the host's processes": Bad(pod(hostPID=True), _HOST, "hostPID must not be set"),
    "the host's memory": Bad(pod(hostIPC=True), _HOST, "hostIPC must not be set"),
    "a host process": Bad(
        container(securityContext={"windowsOptions": {"hostProcess": True}}), _HOST, "hostProcess must not be set"
    ),
    "a pod of host processes": Bad(
        pod(securityContext={"windowsOptions": {"hostProcess": True}}), _HOST, "hostProcess must not be set"
    ),
    "a host port": Bad(
        container(ports=[{"containerPort": 1, "hostPort": 1}]), "must not take a hostPort", "must not have a hostPort"
    ),
    "a host port of an init container": Bad(
        beside(ports=[{"containerPort": 1, "hostPort": 1}]), "must not take a hostPort", "must not have a hostPort"
    ),
    "privilege": Bad(container(securityContext={"privileged": True}), "privileged", "privileged must not be true"),
    "privilege of an init container": Bad(
        beside(securityContext={"privileged": True}), "privileged", "privileged must not be true"
    ),
    "more privilege": Bad(
        container(securityContext={"allowPrivilegeEscalation": True}),
        "allowPrivilegeEscalation",
        "allowPrivilegeEscalation must not be true",
    ),
    "the kernel's files": Bad(container(securityContext={"procMount": "Unmasked"}), "procMount", "procMount must be"),
    "a capability": Bad(
        container(securityContext={"capabilities": {"add": ["NET_ADMIN"]}}),
        "must not add capabilities",
        "capabilities.add must be empty",
    ),
    "no seccomp": Bad(
        pod(securityContext={"seccompProfile": UNCONFINED}), "Unconfined", "seccompProfile must not be Unconfined"
    ),
    "no seccomp in a container": Bad(
        container(securityContext={"seccompProfile": UNCONFINED}), "Unconfined", "seccompProfile must not be Unconfined"
    ),
    "no AppArmor": Bad(
        pod(securityContext={"appArmorProfile": UNCONFINED}), "Unconfined", "appArmorProfile must not be Unconfined"
    ),
    "no AppArmor in an init container": Bad(
        beside(securityContext={"appArmorProfile": UNCONFINED}), "Unconfined", "appArmorProfile must not be Unconfined"
    ),
    "no AppArmor, in the old way": Bad(
        {"podTemplate": {"metadata": {"annotations": {APPARMOR: "unconfined"}}}},
        "AppArmor profiles must not be unconfined",
        "must not be unconfined",
    ),
    "a sysctl": Bad(
        pod(securityContext={"sysctls": [{"name": "a", "value": "1"}]}),
        "sysctls must not be set",
        "sysctls must not be set",
    ),
    "something that is no list": Bad(pod(containers={"model": {}}), "must be lists", "must not be a map"),
    "volumes that are no list": Bad(pod(volumes="v"), "must be lists", "must be a list"),
}
ALLOWED: dict[str, Object] = {
    "nothing special": {},
    "an image of the chart": {"runtime": {"image": IMAGE}},
    "a volume of its own": pod(volumes=[{"name": "v", "emptyDir": {}}]),
    "an image of the chart as a volume": pod(volumes=[{"name": "v", "image": {"reference": IMAGE}}]),
    "less privilege": container(securityContext={"capabilities": {"drop": ["ALL"]}, "privileged": False}),
    "a sidecar with an image of the chart": pod(containers=[{"name": "s", "image": IMAGE}]),
    "a model in the node's folder": {"model": {"uri": f"file://{FOLDER}/m"}},
    "the model's folder in a second place": of_node(name="model", mountPath="/again", readOnly=True),
    "a volume of its own beside the node's folder": {
        "model": {"uri": f"file://{FOLDER}/m"},
        **pod(
            volumes=[{"name": "v", "emptyDir": {}}],
            containers=[{"name": "model", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}],
        ),
    },
    "keys at a name": keys_at("issuer.example"),
    "keys at a public address": keys_at("1.1.1.1"),
    "a fallback at a name": elsewhere("api.example"),
    "a fallback where the policy allows it": elsewhere("10.20.0.1:6443"),
    "keys at a public address of IPv6": keys_at("[2606:4700:4700::1111]:8443"),
    "keys where the policy allows it": keys_at("10.20.0.1:6443"),
    "a profile of seccomp": pod(securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
}
