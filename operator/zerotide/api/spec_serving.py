"""`spec.hold`, `start`, `request`, `routing`, `drain`, `cache`, `billing`: what requests meet."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt

from zerotide.api.base import Amount, Duration, Matches, Model, Name, Quantity, Rule, Span, Unique
from zerotide.api.names import PATTERN_ENDPOINT_NAME
from zerotide.api.spec_model import ModelName, SecretRef
from zerotide.api.urls import BASE_URL

PATH = Matches(
    r"^(/[A-Za-z0-9._~-]+){1,16}$", "be an exact absolute path such as /v1/images/generations", refuse=r"/\.\.?(/|$)"
)

Consumer = Annotated[
    str,
    Field(min_length=1, max_length=63),
    Matches(r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$", "be letters, digits, `.`, `_` and `-`, at most 63"),
]
"""The name of who pays, within a namespace."""


class EndpointRef(Model):
    """Another endpoint of the same namespace."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=46, pattern=PATTERN_ENDPOINT_NAME, description="Name of the endpoint."),
    ]


class Fallback(Model):
    """What serves requests in an endpoint's place."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.endpointRef) != has(self.url)",
            "must have exactly one of endpointRef and url",
            lambda fallback: (fallback.endpoint_ref is None) != (fallback.url is None),
        ),
        Rule(
            "has(self.url) || !has(self.secretRef) && !has(self.model)",
            "must have secretRef and model with url only",
            lambda fallback: fallback.url is not None or (fallback.secret_ref is None and fallback.model is None),
        ),
    )
    endpoint_ref: Annotated[
        EndpointRef | None,
        Field(
            description="Another endpoint of the namespace. It is asked by its own model's name, its limits hold, and "
            "what it serves is billed to it. Its own fallback is not followed."
        ),
    ] = None
    url: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1024,
            description="Where a server of the same protocol is, without the request's path, which is added: "
            "https://api.example.com. Its address must be a public one, or one that the cluster's policy allows. What "
            "it serves is billed to nobody.",
        ),
        BASE_URL,
    ] = None
    secret_ref: Annotated[
        SecretRef | None,
        Field(
            description="Secret whose key `token` is sent to `url` as a bearer token. A Role must let the activator "
            "get it. Absent: none is sent."
        ),
    ] = None
    model: Annotated[
        ModelName | None,
        Field(description="Name of the model at `url`. Absent: the endpoint's own."),
    ] = None


class Hold(Model):
    """What happens to requests that cannot be served yet; bounds are per endpoint, over all activators."""

    while_cold: Annotated[
        Literal["Hold", "Reject", "Fallback"],
        Field(
            description="What a request meets while no replica is ready: Hold keeps it until one is, Reject answers "
            "503 at once, Fallback has it served by `fallback`, and keeps it where that cannot serve it at once. Each "
            "wakes the endpoint."
        ),
    ] = "Hold"
    fallback: Annotated[
        Fallback | None,
        Field(
            description="What serves requests while no replica is ready, where `whileCold` is Fallback, and where a "
            "budget's action is Fallback. Absent: nothing."
        ),
    ] = None
    wake_for: Annotated[
        Literal["Interactive", "Any"],
        Field(
            description="Which requests wake the endpoint: Interactive means all but those with X-Zerotide-Priority: "
            "batch, which are held until another request wakes it; Any means every request."
        ),
    ] = "Interactive"
    cold_timeout: Annotated[
        Duration, Span("1s", "1h"), Field(description="Longest hold while no replica is ready.")
    ] = Duration("9m")
    busy_timeout: Annotated[
        Duration, Span("0s", "1h"), Field(description="Longest hold while every replica is at its limit.")
    ] = Duration("30s")
    max_requests: Annotated[
        StrictInt, Field(ge=1, le=100_000, description="Requests held at a time; further ones get 429.")
    ] = 100
    max_bytes: Annotated[
        Quantity, Amount("64Ki", "64Gi"), Field(description="Bytes of request bodies held at a time.")
    ] = Quantity("64Mi")
    heartbeat: Annotated[
        Duration,
        Span("5s", "60s", zero_too=True),
        Field(description="Time between the comments that a held streaming request is sent; 0s sends none."),
    ] = Duration("15s")


class Start(Model):
    """How long a start may take, and when it is given up."""

    deadline: Annotated[
        Duration, Span("10s", "24h"), Field(description="Longest time from a pod being scheduled to its readiness.")
    ] = Duration("15m")
    capacity_timeout: Annotated[
        Duration,
        Span("0s", "24h"),
        Field(description="Longest time that requests are held for a pod that no node has room for."),
    ] = Duration("5m")
    max_failures: Annotated[
        StrictInt,
        Field(
            ge=1,
            le=100,
            description="With so many failed starts within `failureWindow`, one is given up though requests wait.",
        ),
    ] = 3
    failure_window: Annotated[
        Duration,
        Span("1m", "24h"),
        Field(description="Time within which failed starts add up; it ends with the newest of them."),
    ] = Duration("1h")
    verify: Annotated[
        Literal["Never", "OnChange"],
        Field(
            description="OnChange: whenever what pods are made of has changed, a replica is started without a request, "
            "to prove that it can, at most `maxFailures` times, and goes once it is ready if nobody asks. The "
            "condition Verified tells. Not while `suspend` holds."
        ),
    ] = "Never"


class Request(Model):
    """Limits of one request."""

    timeout: Annotated[
        Duration,
        Span("1s", "24h"),
        Field(description="Longest time from the hand-off to a replica to the last byte; the hold is not counted."),
    ] = Duration("15m")
    max_body_bytes: Annotated[
        Quantity, Amount("1Ki", "1Gi"), Field(description="Largest request body; larger ones get 413.")
    ] = Quantity("16Mi")
    web_socket: Annotated[
        Literal["Disabled", "Enabled"],
        Field(
            description="Enabled: a WebSocket may be opened on `extraPaths`; it counts as one request for as long as "
            "it is open, and lives no longer than `timeout`."
        ),
    ] = "Disabled"
    extra_paths: Annotated[
        tuple[Annotated[str, Field(max_length=256), PATH], ...],
        Field(max_length=16, description="Exact paths that are forwarded beside the inference routes, for POST."),
        Unique(),
    ] = ()


HEADER = Matches(
    r"^[A-Za-z][A-Za-z0-9-]*$",
    "be the name of a header, none that holds a credential",
    refuse=r"^(?i:authorization|proxy-authorization|x-api-key|cookie)$",
)


class Routing(Model):
    """Which replica a request goes to, among those that have room for it."""

    policy: Annotated[
        Literal["LeastInFlight", "PrefixAffinity"],
        Field(
            description="LeastInFlight: the one with the fewest requests. PrefixAffinity: requests whose prompts begin "
            "alike go to one replica, whose cache knows that beginning, as long as it is not overloaded."
        ),
    ] = "LeastInFlight"
    prefix_bytes: Annotated[
        StrictInt,
        Field(
            ge=16,
            le=65536,
            description="How much of the prompt, as it is written in the body, must be alike for PrefixAffinity. More "
            "than all conversations have in common, such as a system prompt.",
        ),
    ] = 256
    max_load_percent: Annotated[
        StrictInt,
        Field(
            ge=100,
            le=1000,
            description="Requests that a replica may have by affinity, in percent of the mean of all replicas, rounded "
            "up; beyond that they go to the next one in a fixed order.",
        ),
    ] = 125
    sticky_header: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            description="A request header, such as X-Session-Id: requests with the same value go to one replica within "
            "the same bound of load, whatever the policy. Absent: none.",
        ),
        HEADER,
    ] = None


class Drain(Model):
    """How a replica leaves."""

    timeout: Annotated[
        Duration,
        Span("0s", "24h"),
        Field(
            description="Longest time that a leaving replica may take to end its requests; at least request.timeout."
        ),
    ] = Duration("15m")


class CacheClaim(Model):
    """A PersistentVolumeClaim in the endpoint's namespace."""

    claim_name: Annotated[Name, Field(description="Name of the claim; replicas write to it.")]


class Cache(Model):
    """Where weights are kept between starts, and what engines compile."""

    type: Annotated[
        Literal["None", "PersistentVolumeClaim"],
        Field(
            description="None: nowhere; they are in the image, or fetched at each start. PersistentVolumeClaim: in a "
            "claim, mounted at /cache, which costs a wake 0.3 s and saves it the download."
        ),
    ] = "None"
    persistent_volume_claim: Annotated[
        CacheClaim | None, Field(description="The claim, where type is PersistentVolumeClaim.")
    ] = None

    @property
    def claim(self) -> str:
        """Return the claim's name, empty where there is none."""
        return self.persistent_volume_claim.claim_name if self.persistent_volume_claim else ""


class Billing(Model):
    """Who pays for which part of the replicas' time."""

    consumer: Annotated[
        Consumer | None,
        Field(
            description="Who pays for the time that no caller pays for, a name within the namespace. Absent: the "
            "name of the endpoint."
        ),
    ] = None
    cold_start: Annotated[
        Literal["Owner", "Trigger", "ProRata"],
        Field(
            description="Who pays while a replica starts. Owner: `consumer`. Trigger: whoever's request woke it. "
            "ProRata: all that it served, by their shares of its active time. Nobody's is the owner's."
        ),
    ] = "Owner"
    split: Annotated[
        Literal["Equal", "Tokens"],
        Field(
            description="How requests in flight at the same time share a replica. Equal: each the same. Tokens: by "
            "their uncached tokens in and tokens out, spread over their time in flight."
        ),
    ] = "Equal"
    on_ledger_failure: Annotated[
        Literal["Serve", "Deny"],
        Field(
            description="What happens while usage cannot be brought to the ledger. Serve: requests are served, also "
            "once their usage cannot even be kept for later, which is then lost and not billed. Deny: they are "
            "refused with 503 ledger_unavailable, and wake nothing, from the time when usage has waited for too long "
            "or cannot be kept."
        ),
    ] = "Serve"
