"""The frequencies of rotary position embeddings."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from zerotide_runtime.engine.config import ModelConfig


def rotary_frequencies(config: ModelConfig) -> npt.NDArray[np.float32]:
    """Return by how much each pair of a head's numbers turns from one position to the next, [head_dim / 2]."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1.0) / np.float32(config.rope_theta) ** exponents
    scaling = config.rope_scaling
    if scaling is not None:
        wavelengths = np.float32(2 * math.pi) / frequencies
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        smooth = ((scaling.original_context / wavelengths - low) / (high - low)).clip(0, 1)
        frequencies = frequencies * (smooth + (1 - smooth) / scaling.factor)
    return frequencies.astype(np.float32)
