"""Tokens of OpenID providers and their like: who they say calls, and the keys that prove it."""
