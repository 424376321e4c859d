"""Start a replica before the requests that come at this hour of the week, for no more than a budget.

Pure. Times are microseconds since the epoch.
"""
