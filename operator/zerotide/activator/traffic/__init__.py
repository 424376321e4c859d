"""The way of one request: `gateway` leads it from `intake` (who, which endpoint, what) through `holder` (when it
may go) to `forwarder` (to a replica, and again to another) and `relay` (the answer back); `replies` and `local`
answer without a replica. `visit` is what is known of it.
"""
