"""Learn how long an endpoint's silences last, and how long it is worth staying awake for the next request.

Times here are seconds in floats: these are statistics, not instants.
"""
