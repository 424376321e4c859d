"""The exporter process: it writes down what happened to pods and requests, and answers what that cost.

`pods`, `nodes` and `endpoints` follow the cluster, `intake` takes the activators' usage records; everything goes into
a `store` before anything else happens. `settle` turns settled time into counters, `http` serves reports.
"""
