"""The data plane: authenticates, admits, holds, routes, streams and counts requests.

    wire/        HTTP/1.1 and HTTP/2 on sockets, behind a narrow seam: Exchange in, Pool out
    admission/   pure decisions: who calls what, for how long it may wait, when it goes
    endpoints/   endpoints, keys and replicas, followed from objects in any order of events
    traffic/     the way of one request: admitted, held, forwarded, answered
    demand/      what the operator needs to know: held, in flight, last activity, wake stamps
    usage/       who used what: a durable log, shipped to the exporter
    council/     several activators that act as one: one line, exact bounds, seats lent in batches
    processes/   several processes in a pod that look like one, where more than one core is asked for
    admin/       health, readiness, metrics and the demand stream on a port of their own

Nothing here writes a spec, and no unauthenticated caller wakes anything.
"""
