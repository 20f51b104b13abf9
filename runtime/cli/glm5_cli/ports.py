"""Free ports for processes that must keep theirs over a restart."""

import random
import socket

# Below Linux' ephemeral range (32768 and up): no outgoing connection can take such a port between two starts.
FIRST, LAST = 15000, 32000


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return `count` different ports on which nobody listens at `host`.

    Raises:
        OSError: there are not so many.
    """
    start = random.SystemRandom().randrange(FIRST, LAST)
    found: list[int] = []
    for offset in range(LAST - FIRST):
        port = FIRST + (start - FIRST + offset) % (LAST - FIRST)
        if is_free(port, host):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"only {len(found)} of {count} ports between {FIRST} and {LAST} are free on {host}")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether a server could listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
