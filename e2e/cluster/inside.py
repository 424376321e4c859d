"""Open connections inside a cluster's network from a process outside it."""

from __future__ import annotations

import ctypes
import os
import socket
import threading

from e2e.cluster.errors import NotRunning

CLONE_NEWNET = 0x40000000


def open_socket(pid: int) -> socket.socket:
    """Return a TCP socket that lives in the network namespace of a process. Raises NotRunning.

    A socket keeps the namespace of the thread that made it, so a thread of its own enters, makes it and ends.
    """
    made: list[socket.socket] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def enter() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        except OSError:
            return
        if libc.setns(descriptor, CLONE_NEWNET) == 0:
            made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        os.close(descriptor)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not made:
        raise NotRunning(
            f"the network namespace of process {pid} cannot be entered: is the cluster up, and are you root?"
        )
    return made[0]


def answers(pid: int, address: tuple[str, int], timeout: float = 1.0) -> bool:
    """Say whether something inside accepts connections at an address. Raises NotRunning."""
    with open_socket(pid) as probe:
        probe.settimeout(timeout)
        return probe.connect_ex(address) == 0
