"""Budgets that are never passed: tokens are reserved before a request is sent, and while its answer streams."""
