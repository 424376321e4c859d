"""Hypothesis strategies for specs: whole ones that may break any rule, as people could write them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

DURATIONS = st.sampled_from(
    ["0s", "1s", "4999ms", "5s", "15s", "60s", "61s", "1m", "5m", "9m", "15m", "1h", "1h30m", "24h", "24h1ms", "99999h"]
)
ODD_DURATIONS = st.sampled_from(["", "5", "5d", "-5s", "5s ", "5s\n", "1.5h", "123456s", "1h1m1s1ms1h", "٣s"])
QUANTITIES = st.sampled_from(
    ["0", "1", "500m", "0.5", "64Ki", "16Mi", "64Mi", "65536k", "1Gi", "1.5Gi", "2Gi", "64Gi", "65Gi", "9P"]
)
ODD_QUANTITIES = st.sampled_from(["", "Mi", "-1", "1mi", "1 Gi", "1e3", "1.Gi", "1Gi\n", "1234567890123"])
URIS = st.sampled_from(
    [
        "hf://owner/name",
        "hf://gpt2",
        "hf://owner/name@main",
        "hf://owner/name@refs/pr/1",
        "pvc://claim",
        "pvc://claim/a/b.c",
        "file:///models/x",
        "image:///models/smollm2",
        "image:///a/..b/c",
        "hf:///x",
        "hf://a/b/c",
        "image://models",
        "image:///",
        "image:///a/../b",
        "image:///a/.",
        "image:///a b",
        "image:///a\n",
        "s3://bucket/x",
        "",
        "pvc://Claim/x",
        "image:///" + "a" * 1020,
    ]
)


def duration() -> st.SearchStrategy[str]:
    """Draw a duration, now and then one that is none."""
    return st.one_of(DURATIONS, DURATIONS, DURATIONS, ODD_DURATIONS)


def quantity() -> st.SearchStrategy[str]:
    """Draw a quantity, now and then one that is none."""
    return st.one_of(QUANTITIES, QUANTITIES, QUANTITIES, ODD_QUANTITIES)


def integer(low: int, high: int) -> st.SearchStrategy[int]:
    """Draw an integer at, within or just outside its limits."""
    return st.one_of(st.integers(low, high), st.sampled_from([low - 1, low, high, high + 1]))


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw an object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def text(alphabet: str, limit: int) -> st.SearchStrategy[str]:
    """Draw a string around its largest length, empty ones included."""
    return st.one_of(
        st.text(alphabet, max_size=12), st.sampled_from(["a" * limit, "a" * (limit + 1), "é" * limit, "a\n"])
    )


ENV = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["A", "B", "lower_1", "1BAD", "A-B", ""])},
        optional={
            "value": st.sampled_from(["", "x", "\n", "é" * 100]),
            "valueFrom": part(
                secretKeyRef=st.just({"name": "s", "key": "k"}),
                configMapKeyRef=st.sampled_from(
                    [{"name": "c", "key": "k", "optional": True}, {"name": "C", "key": "k"}]
                ),
            ),
        },
    ),
    max_size=3,
)
RESOURCES = st.dictionaries(
    st.sampled_from(["cpu", "memory", "example.com/fpga", "nvidia.com/gpu", "bad key", ""]), quantity(), max_size=3
)
LABELS = st.dictionaries(
    st.sampled_from(["team", "example.com/team", "zerotide.dev/endpoint", "app.kubernetes.io/name", "-x", "a/b/c"]),
    st.sampled_from(["", "a", "A.b_c-1", "-a", "é", "a" * 64]),
    max_size=2,
)

SECTIONS: dict[str, st.SearchStrategy[Any]] = {
    "runtime": part(
        engine=st.sampled_from(["zerotide", "vllm", "sglang", "llamacpp", "tgi", "custom", "other"]),
        image=st.sampled_from(["a", "localhost:5000/a/b:1", "a@sha256:0", "", ":a", "a b"]),
        args=st.lists(text("-ab =", 4096), max_size=2),
        env=ENV,
        port=integer(1, 65535),
        serviceAccountName=st.sampled_from(["default", "a.b", "A", "", "-a"]),
        readiness=part(
            type=st.sampled_from(["HTTP", "Token"]), path=st.sampled_from(["/", "/health", "x", "/a?b", ""])
        ),
    ),
    "accelerator": part(className=text("abc-.", 63), count=integer(1, 64)),
    "resources": part(requests=RESOURCES, limits=RESOURCES),
    "scaling": part(
        minReplicas=integer(0, 3),
        maxReplicas=integer(1, 3),
        pinnedReplicas=integer(0, 3),
        concurrency=part(target=integer(1, 40), limit=integer(0, 40)),
        idle=part(policy=st.sampled_from(["Fixed", "Learned"]), timeout=duration()),
        stabilization=part(scaleUp=duration(), scaleDown=duration()),
    ),
    "hold": part(
        whileCold=st.sampled_from(["Hold", "Reject", "Fallback"]),
        coldTimeout=duration(),
        busyTimeout=duration(),
        maxRequests=integer(1, 100_000),
        maxBytes=quantity(),
        heartbeat=duration(),
    ),
    "start": part(
        deadline=duration(), capacityTimeout=duration(), maxFailures=integer(1, 100), failureWindow=duration()
    ),
    "request": part(
        timeout=duration(),
        maxBodyBytes=quantity(),
        extraPaths=st.lists(st.sampled_from(["/a", "/v1/x", "/a/", "a", "/a/../b", "/a?b"]), max_size=3),
    ),
    "drain": part(timeout=duration()),
    "access": part(auth=st.sampled_from(["APIKey", "Open", "JWT"]), maxInFlightPerConsumer=integer(1, 100_000)),
    "cache": part(type=st.sampled_from(["None", "Node"])),
    "billing": part(consumer=text("ab._-/", 63)),
    "suspend": st.booleans(),
    "podTemplate": part(
        metadata=part(labels=LABELS, annotations=LABELS),
        spec=st.dictionaries(
            st.sampled_from(["nodeSelector", "x"]), st.sampled_from([{}, {"a": [1, None]}]), max_size=2
        ),
    ),
}
MODEL = st.fixed_dictionaries(
    {"uri": st.one_of(st.just("image:///m"), URIS)},
    optional={
        "name": text("aB/._-", 128),
        "aliases": st.lists(st.sampled_from(["a", "b", "o/n", "-x"]), max_size=3),
        "secretRef": st.sampled_from([{"name": "hf-token"}, {"name": ""}, {}]),
    },
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a spec of which at most two sections are anything but absent, so that about half are valid."""
    spec: dict[str, Any] = {"model": draw(MODEL) if draw(st.booleans()) else {"uri": "image:///m"}}
    for section in draw(st.lists(st.sampled_from(sorted(SECTIONS)), max_size=2, unique=True)):
        spec[section] = draw(SECTIONS[section])
    return spec


def endpoint(spec: dict[str, Any], name: str = "drawn", namespace: str = "default") -> dict[str, Any]:
    """Wrap a spec into an object."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint", "metadata": metadata, "spec": spec}
