"""Read a LoRA adapter as PEFT saves it: adapter_config.json beside adapter_model.safetensors.

Whatever would have to be computed otherwise than as a low-rank addition to a layer's projections is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zerotide_runtime.errors import InvalidModel, ModelNotFound, UnsupportedModel
from zerotide_runtime.weights.numeric import to_float32
from zerotide_runtime.weights.safetensors_file import Entry, read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TENSOR = re.compile(
    r"base_model\.model\.(?P<module>model\.layers\.(?P<layer>\d{1,4})\.(?:self_attn\.[qkvo]|mlp\.(?:gate|up|down))_proj)"
    r"\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
# What changes more than a product, or changes it otherwise; empty in adapters that do not use it.
BEYOND = (
    *("use_dora", "modules_to_save", "fan_in_fan_out", "lora_bias", "layer_replication", "trainable_token_indices"),
    *("alora_invocation_tokens", "use_qalora", "target_parameters"),
)
# Beginnings that take a part out of the model's own weights: these adapters are of weights that nobody has.
OTHER_WEIGHTS = ("pissa", "olora", "corda", "loftq")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LowRank:
    """One projection's part: `up` [outputs, rank] times `down` [rank, inputs] times `scale`."""

    down: Floats
    up: Floats
    scale: float


def adapter_bytes(folder: Path) -> int:
    """Return what an adapter takes in memory, as float32."""
    return sum((entry.end - entry.begin) * (1 if entry.dtype == "F32" else 2) for entry in _entries(folder).values())


def read_adapter(folder: Path) -> dict[tuple[int, str], LowRank]:
    """Return an adapter's parts by layer and projection; raise a StartError that names what is wrong."""
    config = _config(folder)
    sides: dict[str, dict[str, Entry]] = {}
    places: dict[str, tuple[int, str]] = {}
    for name, entry in _entries(folder).items():
        match = TENSOR.fullmatch(name)
        if match is None:
            raise UnsupportedModel(f"the adapter in {folder} changes {name}; known are the projections of layers")
        module = match["module"]
        sides.setdefault(module, {})[match["side"]] = entry
        places[module] = int(match["layer"]), module.rpartition(".")[2]
    if not sides:
        raise InvalidModel(f"the adapter in {folder} changes nothing")
    return {places[module]: _low_rank(folder, config, module, found) for module, found in sides.items()}


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
    except FileNotFoundError:
        raise ModelNotFound(f"{folder} has no {CONFIG}; an adapter is a folder as PEFT saves it") from None
    except ValueError as error:
        raise InvalidModel(f"{folder / CONFIG} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UnsupportedModel(f"{folder / CONFIG} does not say `peft_type` LORA; no other kind of adapter is known")
    for key in BEYOND:
        if config.get(key):
            raise UnsupportedModel(f"{folder / CONFIG} has {key}={config[key]!r}, which this engine does not compute")
    if config.get("bias", "none") != "none":
        raise UnsupportedModel(f"{folder / CONFIG} has bias={config['bias']!r}, which this engine does not compute")
    if str(config.get("init_lora_weights")).startswith(OTHER_WEIGHTS):
        raise UnsupportedModel(
            f"{folder / CONFIG} has init_lora_weights={config['init_lora_weights']!r}: it belongs to weights that were "
            "changed as well; save it converted to a plain LoRA adapter"
        )
    return config


def _entries(folder: Path) -> dict[str, Entry]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise ModelNotFound(f"{folder} has no {WEIGHTS}; an adapter is a folder as PEFT saves it")
    return read_header(path)


def _low_rank(folder: Path, config: Mapping[str, Any], module: str, sides: Mapping[str, Entry]) -> LowRank:
    if sides.keys() != {"A", "B"}:
        raise InvalidModel(f"the adapter in {folder} has only one side of {module}")
    down, up = (_read(folder / WEIGHTS, sides[side]) for side in "AB")
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise InvalidModel(f"the adapter's sides of {module} do not fit: {list(up.shape)} and {list(down.shape)}")
    rank = len(down)
    try:
        alpha = float(_by_module(config.get("alpha_pattern") or {}, module, config["lora_alpha"]))
    except (KeyError, TypeError, ValueError, re.error):
        raise InvalidModel(f"{folder / CONFIG} does not say lora_alpha as a number") from None
    return LowRank(down, up, alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _by_module(pattern: Mapping[str, Any], module: str, usual: Any) -> Any:
    """Return what a pattern of modules' names says of one: the first that is the name's end counts."""
    return next((value for key, value in pattern.items() if re.fullmatch(rf"(?:.*\.)?(?:{key})", module)), usual)


def _read(path: Path, entry: Entry) -> Floats:
    with path.open("rb") as file:
        file.seek(entry.begin)
        return to_float32(file.read(entry.end - entry.begin), entry.dtype).reshape(entry.shape)
