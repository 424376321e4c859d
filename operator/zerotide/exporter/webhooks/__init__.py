"""Webhooks of budgets: sent beside everything else, signed, repeated within bounds, and never twice once taken."""
