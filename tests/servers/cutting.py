"""A relay before a real server that breaks connections off in mid-answer, as a bad network does; tests start it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK_BYTES = 65_536


class Relay:
    """Hands bytes to and fro between whoever connects and one server.

    address     its http:// address on 127.0.0.1
    n_cuts      how many answers it will still break off
    is_silent   whether it hangs up on everybody
    """

    def __init__(self, server: str, n_bytes_between_cuts: int) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._n_bytes = n_bytes_between_cuts
        self._door = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.n_cuts = 0
        self.is_silent = False

    def serve(self) -> None:
        """Take connections until closed."""
        while True:
            try:
                caller, _ = self._door.accept()
            except OSError:
                return
            if self.is_silent:
                caller.close()
                continue
            server = socket.create_connection(self._server)
            threading.Thread(target=self._answer, args=(server, caller), daemon=True).start()
            threading.Thread(target=_copy, args=(caller, server), daemon=True).start()

    def close(self) -> None:
        """Stop listening; an accept that waits is woken first."""
        with suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _answer(self, server: socket.socket, caller: socket.socket) -> None:
        n_sent = 0
        with server, caller:
            with suppress(OSError):
                while block := server.recv(BLOCK_BYTES):
                    caller.sendall(block)
                    n_sent += len(block)
                    if n_sent > self._n_bytes and self._takes_a_cut():
                        break
            # Closing alone says nothing to the other side as long as the other thread still waits on the socket.
            for end in (caller, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _takes_a_cut(self) -> bool:
        with self._lock:
            if self.is_silent:
                return True
            self.n_cuts -= 1
            return self.n_cuts >= 0


@contextmanager
def relay(server: str, n_bytes_between_cuts: int) -> Iterator[Relay]:
    """Run a relay for as long as the block runs.

    server                http:// address with a port
    n_bytes_between_cuts  bytes of one answer that come through before it is broken off
    """
    running = Relay(server, n_bytes_between_cuts)
    thread = threading.Thread(target=running.serve, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.close()
        thread.join()


def _copy(source: socket.socket, into: socket.socket) -> None:
    with suppress(OSError):
        while block := source.recv(BLOCK_BYTES):
            into.sendall(block)
