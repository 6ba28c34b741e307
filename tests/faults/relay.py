"""A TCP relay before a server that can make every answer late, or send who connects to another server.

In: the server's address. Out: an address of its own. Called by stage.py; one thread with select, so order is kept.
"""

import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

BLOCK_BYTES = 262_144
TURN_S = 0.05


@dataclass
class _Way:
    """Bytes in one direction of one connection, each with the moment from which on they may go on."""

    source: socket.socket
    target: socket.socket
    is_answer: bool
    held: deque[tuple[float, bytes]] = field(default_factory=deque)


class Relay:
    """Hands bytes to and fro.

    delay_s  how long answers are held from now on
    """

    def __init__(self, server: str) -> None:
        self.delay_s = 0.0
        self._server = server
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        self._ways: dict[socket.socket, _Way] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._is_closed = self._is_turning = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def lead_to(self, server: str) -> None:
        """Hang up on everybody; who connects again finds another server."""
        self._server = server
        self._is_turning = True

    def close(self) -> None:
        """Hang up and listen no more."""
        self._is_closed = True
        self._thread.join()

    def _serve(self) -> None:
        while not self._is_closed:
            due_s = min((way.held[0][0] for way in self._ways.values() if way.held), default=time.monotonic() + TURN_S)
            for key, _ in self._selector.select(max(0.0, min(TURN_S, due_s - time.monotonic()))):
                if key.fileobj is self._door:
                    self._connect()
                elif key.fileobj in self._ways:
                    self._take(self._ways[key.fileobj])
            for way in list(self._ways.values()):
                self._hand_on(way)
            if self._is_turning:
                self._is_turning = False
                self._hang_up_on_all()
        self._hang_up_on_all()
        self._door.close()
        self._selector.close()

    def _connect(self) -> None:
        caller, _ = self._door.accept()
        host, _, port = self._server.rpartition(":")
        try:
            server = socket.create_connection((host, int(port)), 1.0)
        except OSError:
            caller.close()
            return
        for source, target, is_answer in ((caller, server, False), (server, caller, True)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ways[source] = _Way(source, target, is_answer)
            self._selector.register(source, selectors.EVENT_READ)

    def _take(self, way: _Way) -> None:
        block = b""
        with suppress(OSError):
            block = way.source.recv(BLOCK_BYTES)
        if block:
            way.held.append((time.monotonic() + (self.delay_s if way.is_answer else 0.0), block))
        else:
            self._hang_up(way)

    def _hand_on(self, way: _Way) -> None:
        while way.held and way.held[0][0] <= time.monotonic():
            try:
                way.target.sendall(way.held.popleft()[1])
            except OSError:
                self._hang_up(way)
                return

    def _hang_up(self, way: _Way) -> None:
        for end in (way.source, way.target):
            if self._ways.pop(end, None) is not None:
                self._selector.unregister(end)
            end.close()
        way.held.clear()

    def _hang_up_on_all(self) -> None:
        for way in list(self._ways.values()):
            if way.source in self._ways:
                self._hang_up(way)
