"""The generating part: model, key-value cache, sampler, continuous batching.

Only `model`, `kv`, `sampler`, `tensors` and `runner` import torch, and they are imported by the engine's own thread:
everything that a server needs before that is light.
"""
