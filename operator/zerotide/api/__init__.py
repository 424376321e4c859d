"""The vocabulary of Zerotide: kinds, names, conditions, errors and the records that its processes exchange.

Pure types and functions: no I/O, no clock, no randomness. Everything else in the package imports this one;
it imports nothing of the rest.
"""
