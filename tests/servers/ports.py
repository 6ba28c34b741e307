"""Free ports of 127.0.0.1, for servers that must be told theirs; tests/servers calls it."""

import random
import socket

# Below the range that Linux hands out for outgoing connections, and below 65536 with any server's second port added.
LOWEST, HIGHEST = 20_000, 30_000


def free_port(second: int = 0) -> int:
    """Return a port nobody listens on.

    second  a server that also takes the port this far above; 0: it takes one only
    """
    # Seeds of tests must not make two test processes ask for the same port.
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(LOWEST, HIGHEST)
        if _is_free(port) and (not second or _is_free(port + second)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
