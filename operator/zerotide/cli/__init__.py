"""The `zerotide` command: look at endpoints, wake and call them, make keys, read bills.

Data goes to stdout and prose to stderr, so that every command can stand in a pipe. Exit codes are stable:
0 ok, 1 error, 2 usage, 3 not found, 4 denied, 5 timed out, 6 start failed, 7 verify found a difference.
"""
