"""How many replicas an endpoint gets, and why: demand + policy + facts + now -> Decision.

Nothing here reads a clock; times are microseconds since the epoch on the operator's clock, durations microseconds.
"""
