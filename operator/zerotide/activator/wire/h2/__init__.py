"""HTTP/2 on sockets: clients' connections (`connection`, `stream`) behind the seam of `wire`, and the replicas'.

`engine` keeps the protocol's state with the `h2` library; `frames`, `floods` and `strict` are what it does not refuse
and we do. A connection begins as HTTP/1.1 and is handed over at its preface, with TLS or without.
"""
