"""Several processes of the wire in one pod, which look like one activator from outside.

The parent serves no traffic: it starts `child`ren that share the port, keeps their listening sockets open across
their deaths, and answers on the admin port for all of them: `pages` adds their metrics up, `demand` their demand. A
child is an activator like any other, a `member` named `pod/number`; it listens for its parent on a socket in a folder
of their own. With one process there is no parent, and none of this runs.
"""
