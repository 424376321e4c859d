"""What the operator needs to know of the traffic: held, in flight, arrivals, last activity, stamps of wakes.

`tracker` counts, `stream` says it line by line to whoever listens.
"""
