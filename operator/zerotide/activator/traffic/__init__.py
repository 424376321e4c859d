"""The way of one request: `gateway` leads it.

One that came whole goes by `express`, on the spot and by what its head was read to say before (`readings`), and where
it has to wait it is held by `waiting`; neither needs a task. Any other goes from `intake` (who, which endpoint, what;
`special` for what is more than a body) through `holder` (when it may go) to `forwarder` (to a replica, and again to
another). `way` is how it gets there: a body, a call of gRPC (`calls`), a tunnel (`websocket`); `outgoing` what a
replica sees; `relay` brings the answer back. `replies` and `local` answer without a replica, `books` holds what is
written down of it, and `visit` is what is known of it.
"""
