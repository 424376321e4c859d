"""Hypothesis strategies for specs: whole ones that may break any rule, as people could write them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from zerotide.api.scalars import parse_duration, parse_quantity

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


def duration(low: str = "0s", high: str = "24h") -> st.SearchStrategy[str]:
    """Draw a duration, mostly one between these; now and then one beyond them, or a text that is none."""
    good = DURATIONS.filter(lambda text: parse_duration(low) <= parse_duration(text) <= parse_duration(high))
    return seldom(good, DURATIONS, ODD_DURATIONS)


def quantity(low: str = "0", high: str = "9P") -> st.SearchStrategy[str]:
    """Draw a quantity, mostly one between these; now and then one beyond them, or a text that is none."""
    good = QUANTITIES.filter(lambda text: parse_quantity(low) <= parse_quantity(text) <= parse_quantity(high))
    return seldom(good, QUANTITIES, ODD_QUANTITIES)


def seldom(good: st.SearchStrategy[Any], *odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw from the first strategy, one time in twenty from the others."""
    return st.integers(0, 19).flatmap(lambda die: st.one_of(*odd) if die == 7 else good)


def among(*good: Any, odd: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Draw one of these values, seldom an odd one."""
    return seldom(st.sampled_from(good), st.sampled_from(odd)) if odd else st.sampled_from(good)


def integer(low: int, high: int) -> st.SearchStrategy[int]:
    """Draw an integer within its limits, seldom just outside."""
    return seldom(st.integers(low, high), st.sampled_from([low - 1, high + 1]))


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Draw an object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def text(good: str, limit: int) -> st.SearchStrategy[str]:
    """Draw a string of these characters that begins and ends with a letter, seldom an odd or a long one."""
    inner = st.text(good, max_size=8).map(lambda drawn: f"a{drawn}b")
    return seldom(inner, st.sampled_from(["", "a" * limit, "a" * (limit + 1), "é" * limit, "a\n", "-a", "a b"]))


REFS = among({"name": "s", "key": "k"}, {"name": "s", "key": "k", "optional": True}, odd=({"name": "S", "key": "k"},))
VARIABLE = st.fixed_dictionaries(
    {"name": among("A", "B", "lower_1", odd=("1BAD", "A-B", ""))},
    optional={
        "value": st.sampled_from(["", "x", "\n", "é" * 100]),
        "valueFrom": part(secretKeyRef=REFS, configMapKeyRef=REFS),
    },
)
RESOURCE_NAMES = among("cpu", "memory", "example.com/fpga", "nvidia.com/gpu", odd=("bad key", "", "a/b/c"))
RESOURCES = st.dictionaries(RESOURCE_NAMES, quantity(), max_size=2)
LABEL_KEYS = among(
    "team",
    "example.com/team",
    odd=("zerotide.dev/endpoint", "app.kubernetes.io/name", "-x", "a/b/c", "metering.zerotide.dev/x"),
)
LABELS = st.dictionaries(LABEL_KEYS, among("", "a", "A.b_c-1", odd=("-a", "é", "a" * 64)), max_size=2)
TOKENS = st.one_of(
    seldom(st.just({"jwksURL": "https://issuer.example/jwks"}), st.just({})),
    st.fixed_dictionaries(
        {"jwksURL": among("https://a:8443/k?p=1", "https://[::1]/", odd=("http://a/", "https://u@a/", "https://a/#b"))},
    ),
    st.fixed_dictionaries(
        {"jwksConfigMap": part(name=among("keys", odd=("Keys", "")), key=among("a.json", odd=("a/b",)))}
    ),
    st.just({"jwksURL": "https://a", "jwksConfigMap": {"name": "a"}}),
).flatmap(
    lambda source: st.fixed_dictionaries(
        {
            "issuer": among("https://issuer.example", "i", odd=("", "a b", "i\n", "i" * 513)),
            "audiences": st.lists(among("a", "b", odd=("", "a b")), max_size=3),
            **{name: st.just(value) for name, value in source.items()},
        },
        optional={"consumerClaim": among("sub", "https://a/team", odd=("", "a b", "é"))},
    )
)
WINDOW = st.fixed_dictionaries(
    {
        "name": among("office", "a", odd=("", "A", "a" * 64)),
        "start": among(
            "0 8 * * 1-5", "*/15 22-6 1,15 * 7", "59 23 31 12 0", odd=("0 8 * *", "60 8 * * *", "@daily", "")
        ),
        "duration": among("10h", "168h", odd=("0s", "169h", "soon")),
    },
    optional={
        "timeZone": among("Europe/Rome", "UTC", "America/Argentina/Ushuaia", odd=("Local", "Mars/Base", "+02:00", "")),
        "minReplicas": integer(0, 3),
    },
)
OVERRIDE = st.fixed_dictionaries(
    {"minReplicas": integer(0, 3), "until": among("2026-11-22T18:00:00Z", odd=("tomorrow", "2026-13-01T00:00:00Z"))}
)
SECTIONS: dict[str, st.SearchStrategy[Any]] = {
    "runtime": part(
        engine=among("zerotide", "vllm", "sglang", "llamacpp", "tgi", "custom", odd=("other",)),
        image=among("a", "localhost:5000/a/b:1", "a@sha256:0", odd=("", ":a", "a b")),
        args=st.lists(text("-ab =", 4096), max_size=2),
        env=st.lists(VARIABLE, max_size=2),
        port=integer(1, 65535),
        protocol=among("HTTP", "GRPC", odd=("H2C",)),
        serviceAccountName=among("default", "a.b", odd=("A", "", "-a")),
        readiness=part(type=among("HTTP", "Token", odd=("None",)), path=among("/", "/health", odd=("x", "/a?b", ""))),
    ),
    "accelerator": part(
        className=text("abc-.", 63),
        count=integer(1, 64),
        alternatives=st.lists(part(className=text("abc", 2), count=integer(1, 64)), max_size=5),
    ),
    "resources": part(requests=RESOURCES, limits=RESOURCES),
    "scaling": part(
        minReplicas=integer(0, 3),
        maxReplicas=integer(1, 3),
        pinnedReplicas=integer(0, 3),
        concurrency=part(target=integer(1, 40), limit=integer(0, 40)),
        engineQueue=part(target=integer(1, 100)),
        ping=part(
            interval=duration("10s"),
            path=among("/v1/embeddings", "/a", odd=("a", "/a/../b", "/a?b", "")),
            body=among('{"input": "a"}', "x" * 4096, odd=("", "x" * 4097)),
        ),
        tokensInFlight=part(target=integer(1, 10_000)),
        queueDelay=part(target=duration("10ms", "10m")),
        idle=part(policy=among("Fixed", "Learned", odd=("Guessed",)), timeout=duration("5s")),
        schedules=st.lists(WINDOW, max_size=2),
        override=OVERRIDE,
        stabilization=part(scaleUp=duration("0s", "1h"), scaleDown=duration("0s", "1h")),
    ),
    "hold": part(
        whileCold=among("Hold", "Reject", "Fallback", odd=("Queue",)),
        fallback=among(
            {"endpointRef": {"name": "small"}},
            {"url": "https://api.example:8443/v2"},
            {"url": "https://[2606:4700::1]", "secretRef": {"name": "vendor"}, "model": "org/large"},
            odd=(
                {},
                {"endpointRef": {"name": "Small"}},
                {"endpointRef": {"name": "small"}, "url": "https://api.example"},
                {"endpointRef": {"name": "small"}, "model": "large"},
                {"endpointRef": {"name": "small"}, "secretRef": {"name": "vendor"}},
                {"url": "http://api.example"},
                {"url": "https://api.example/"},
                {"url": "https://api.example/a?b"},
                {"url": "https://me@api.example"},
            ),
        ),
        wakeFor=among("Interactive", "Any", odd=("Batch",)),
        coldTimeout=duration("1s", "1h"),
        busyTimeout=duration("0s", "1h"),
        maxRequests=integer(1, 100_000),
        maxBytes=quantity("64Ki", "64Gi"),
        heartbeat=duration("5s", "60s"),
    ),
    "start": part(
        deadline=duration("10s"),
        capacityTimeout=duration(),
        maxFailures=integer(1, 100),
        failureWindow=duration("1m"),
        verify=among("Never", "OnChange", odd=("Always",)),
    ),
    "request": part(
        timeout=duration("1s"),
        maxBodyBytes=quantity("1Ki", "1Gi"),
        webSocket=among("Disabled", "Enabled", odd=("true",)),
        extraPaths=st.lists(among("/a", "/v1/x", odd=("/a/", "a", "/a/../b", "/a?b")), max_size=2),
    ),
    "routing": part(
        policy=among("LeastInFlight", "PrefixAffinity", odd=("RoundRobin",)),
        prefixBytes=integer(16, 65536),
        maxLoadPercent=integer(100, 1000),
        stickyHeader=among("X-Session-Id", "session", odd=("", "a b", "Authorization", "COOKIE", "x" * 65, "x_y", "1")),
    ),
    "drain": part(timeout=duration()),
    "access": st.one_of(
        part(auth=among("APIKey", "Open", odd=("JWT", "None")), maxInFlightPerConsumer=integer(1, 100_000)),
        st.fixed_dictionaries({"auth": among("JWT", odd=("APIKey",)), "jwt": TOKENS}),
    ),
    "cache": part(
        type=among("None", "PersistentVolumeClaim", odd=("Node",)),
        persistentVolumeClaim=among({"claimName": "kept"}, odd=({}, {"claimName": "A"})),
    ),
    "billing": part(
        consumer=text("ab._-", 63),
        coldStart=among("Owner", "Trigger", "ProRata", odd=("owner", "")),
        split=among("Equal", "Tokens", odd=("Time",)),
    ),
    "suspend": st.booleans(),
    "podTemplate": part(
        metadata=part(labels=LABELS, annotations=LABELS),
        spec=st.dictionaries(
            st.sampled_from(["nodeSelector", "x"]), st.sampled_from([{}, {"a": [1, None]}]), max_size=2
        ),
    ),
}
RELATED = (("hold", "start"), ("hold", "request"), ("request", "drain"), ("cache", "runtime"))
"""Sections that a rule holds against each other."""

MODEL = st.fixed_dictionaries(
    {"uri": URIS},
    optional={
        "name": text("aB/._-", 128),
        "aliases": st.lists(among("a", "b", "o/n", odd=("-x",)), max_size=3),
        "adapters": st.lists(
            among(
                {"name": "a", "uri": "hf://o/n@r"},
                {"name": "b.2", "uri": "pvc://c/p"},
                odd=({"name": "a:b", "uri": "image:///a"}, {"name": "c", "uri": "file:///a"}, {"name": "d"}),
            ),
            max_size=2,
        ),
        "secretRef": among({"name": "hf-token"}, odd=({"name": ""}, {})),
    },
)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a spec of which few sections are there, so that about half of the specs are valid."""
    chosen = draw(
        st.one_of(
            st.just(("model",)),
            st.sampled_from(sorted(SECTIONS)).map(lambda section: (section,)),
            st.sampled_from(RELATED),
            st.lists(st.sampled_from(sorted(SECTIONS)), max_size=3, unique=True).map(tuple),
        )
    )
    spec: dict[str, Any] = {"model": draw(MODEL) if "model" in chosen else {"uri": "image:///m"}}
    return {**spec, **{section: draw(SECTIONS[section]) for section in chosen if section != "model"}}


def endpoint(spec: dict[str, Any], name: str = "drawn", namespace: str = "default") -> dict[str, Any]:
    """Wrap a spec into an object."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint", "metadata": metadata, "spec": spec}
