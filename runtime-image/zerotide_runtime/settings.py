"""The command line and the environment, as one frozen record. Flags win over variables."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zerotide_runtime.errors import SettingsError

ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MOST_ADAPTERS = 32

DESCRIPTION = """\
Serve a causal language model over the OpenAI and TGI protocols.

The port opens at once; requests that come before the model is loaded wait for it, and /health tells."""

EPILOGUE = """\
model locations:
  image:///models/smollm2         a folder inside this container's image
  file:///models/smollm2          a folder of the node or of a volume, as is a plain path
  hf://org/name@revision          a repository of the Hugging Face Hub (HF_ENDPOINT and HF_TOKEN are respected)

adapters are folders as PEFT saves them, at such locations; requests call one by MODEL:NAME

other commands:
  python -m zerotide_runtime publish --help      convert a model for the fastest start"""


@dataclass(frozen=True)
class Settings:
    """What one serving process is told."""

    model_uri: str
    model_name: str
    aliases: tuple[str, ...]
    adapters: tuple[tuple[str, str], ...]
    host: str
    port: int
    cache_dir: str
    max_batch: int
    max_concurrent: int
    max_total_tokens: int | None
    kv_cache_bytes: int | None
    threads: int | None
    max_body_bytes: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int
    prefill_logprobs: bool
    grammars: bool
    prefix_caching: bool
    api_key: str | None
    admin_token: str | None
    admin_socket: str | None
    grace: float
    log_level: str


@dataclass(frozen=True)
class _Option:
    """One setting: its flag, its variable, its default as text, its meaning."""

    flag: str
    variable: str
    default: str
    meaning: str


OPTIONS = (
    _Option("model-uri", "ZEROTIDE_MODEL_URI", "", "where the model lies; see below (required without --standby)"),
    _Option("model-name", "ZEROTIDE_MODEL_NAME", "", "its name in requests (default: the last part of its location)"),
    _Option("aliases", "ZEROTIDE_MODEL_ALIASES", "", "further names, separated by commas"),
    _Option("adapters", "ZEROTIDE_ADAPTERS", "", "LoRA adapters as NAME=LOCATION, separated by spaces; see below"),
    _Option("host", "ZEROTIDE_HOST", "", "address to listen on (default: all)"),
    _Option("port", "PORT", "8000", "port to listen on"),
    _Option("cache-dir", "ZEROTIDE_CACHE_DIR", "/tmp/zerotide", "where downloaded models go"),
    _Option("max-batch", "ZEROTIDE_MAX_BATCH", "32", "sequences that generate at once"),
    _Option(
        "max-concurrent-requests", "MAX_CONCURRENT_REQUESTS", "128", "requests in hand beyond which 429 is answered"
    ),
    _Option("max-total-tokens", "MAX_TOTAL_TOKENS", "", "prompt and answer together (default: the model's context)"),
    _Option("kv-cache-bytes", "ZEROTIDE_KV_CACHE_BYTES", "", "key-value cache (default: what the memory limit leaves)"),
    _Option("threads", "ZEROTIDE_THREADS", "", "computing threads (default: the CPU quota, rounded up)"),
    _Option("max-body-bytes", "ZEROTIDE_MAX_BODY_BYTES", "2000000", "largest request body"),
    _Option("max-best-of", "MAX_BEST_OF", "2", "most answers to choose the best of, on TGI's routes"),
    _Option("max-stop-sequences", "MAX_STOP_SEQUENCES", "4", "most stop sequences of a request, on TGI's routes"),
    _Option("max-top-n-tokens", "MAX_TOP_N_TOKENS", "5", "most alternatives told of each token, on TGI's routes"),
    _Option("prefill-logprobs", "ENABLE_PREFILL_LOGPROBS", "false", "tell a prompt's odds in `prefill`, as TGI may"),
    _Option("grammars", "ZEROTIDE_GRAMMARS", "true", "hold answers to grammars and schemas on request"),
    _Option("prefix-caching", "ZEROTIDE_PREFIX_CACHING", "true", "compute what prompts begin with alike only once"),
    _Option("api-key", "API_KEY", "", "what every POST must bring as a bearer token, but /chat_tokenize"),
    _Option("standby", "ZEROTIDE_STANDBY", "false", "start without a model, and wait for POST /admin/load"),
    _Option("admin-token", "ZEROTIDE_ADMIN_TOKEN", "", "bearer token of /sleep, /wake_up and /admin/load"),
    _Option("admin-socket", "ZEROTIDE_ADMIN_SOCKET", "", "path of a Unix socket on which these need no token"),
    _Option("grace", "ZEROTIDE_GRACE_SECONDS", "900", "seconds that running requests get after SIGTERM"),
    _Option("log-level", "LOG_LEVEL", "info", "debug, info, warning or error"),
)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser; every default is left to the environment."""
    made = argparse.ArgumentParser(
        prog="python -m zerotide_runtime",
        description=DESCRIPTION,
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option in OPTIONS:
        default = f", default {option.default}" if option.default else ""
        # A truth that is named without a value is meant.
        bare: dict[str, Any] = {"nargs": "?", "const": "true"} if option.default in ("true", "false") else {}
        made.add_argument(
            f"--{option.flag}", metavar="VALUE", **bare, help=f"{option.meaning} [{option.variable}{default}]"
        )
    return made


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings; raise SettingsError, which names the flag, for what makes no sense."""
    given = vars(parser().parse_args(arguments))
    values = {}
    for option in OPTIONS:
        flag = given[option.flag.replace("-", "_")]
        values[option.flag] = flag if flag is not None else environment.get(option.variable) or option.default
    uri = values["model-uri"]
    standby = _truth(values, "standby")
    if not uri and not standby:
        raise SettingsError(
            "no model is named; set --model-uri or ZEROTIDE_MODEL_URI, for example image:///models/smollm2"
        )
    if standby and not (values["admin-token"] or values["admin-socket"]):
        raise SettingsError("--standby needs --admin-token or --admin-socket, or nobody could order a model")
    level = values["log-level"].lower()
    if level not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"--log-level is {level!r}; it must be debug, info, warning or error")
    return Settings(
        model_uri="" if standby else uri,
        model_name=values["model-name"] or name_of(uri),
        aliases=tuple(alias.strip() for alias in values["aliases"].split(",") if alias.strip()),
        adapters=read_adapters(pair.partition("=")[::2] for pair in values["adapters"].split()),
        host=values["host"],
        port=_number(values, "port", 0, 65535),
        cache_dir=values["cache-dir"],
        max_batch=_number(values, "max-batch", 1, 1024),
        max_concurrent=_number(values, "max-concurrent-requests", 1, 100_000),
        max_total_tokens=_optional(values, "max-total-tokens", 2),
        kv_cache_bytes=_optional(values, "kv-cache-bytes", 1 << 20),
        threads=_optional(values, "threads", 1),
        max_body_bytes=_number(values, "max-body-bytes", 1024, 1 << 30),
        max_best_of=_number(values, "max-best-of", 1, 128),
        max_stop_sequences=_number(values, "max-stop-sequences", 0, 128),
        max_top_n_tokens=_number(values, "max-top-n-tokens", 0, 128),
        prefill_logprobs=_truth(values, "prefill-logprobs"),
        grammars=_truth(values, "grammars"),
        prefix_caching=_truth(values, "prefix-caching"),
        api_key=values["api-key"] or None,
        admin_token=values["admin-token"] or None,
        admin_socket=values["admin-socket"] or None,
        grace=float(_number(values, "grace", 0, 86_400)),
        log_level=level,
    )


def name_of(uri: str) -> str:
    """Return the last part of a model's location, which names it where nothing else does."""
    return uri.rstrip("/").rsplit("/", 1)[-1].split("@")[0]


def read_adapters(pairs: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return adapters' names and locations; raise SettingsError for what cannot be called by its name."""
    adapters: dict[str, str] = {}
    for name, location in pairs:
        if not ADAPTER_NAME.fullmatch(name) or not location:
            raise SettingsError(f"the adapter {name!r} must be NAME=LOCATION; a name has letters, digits and ._-")
        if name in adapters:
            raise SettingsError(f"two adapters are named {name}; give each a name of its own")
        adapters[name] = location
    if len(adapters) > MOST_ADAPTERS:
        raise SettingsError(f"there are {len(adapters)} adapters; at most {MOST_ADAPTERS} are served beside a model")
    return tuple(adapters.items())


def _optional(values: Mapping[str, str], flag: str, low: int) -> int | None:
    return _number(values, flag, low, 1 << 50) if values[flag] else None


def _number(values: Mapping[str, str], flag: str, low: int, high: int) -> int:
    text = values[flag]
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SettingsError(f"--{flag} is {text!r}; it must be a whole number from {low} to {high}")
    return int(text)


def _truth(values: Mapping[str, str], flag: str) -> bool:
    text = values[flag].lower()
    if text not in ("true", "false"):
        raise SettingsError(f"--{flag} is {text!r}; it must be true or false")
    return text == "true"
