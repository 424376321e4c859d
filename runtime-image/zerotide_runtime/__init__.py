"""Serve a causal language model over the OpenAI and TGI protocols, and start fast."""

__version__ = "0.1.0"
