"""The floor of fan-out: writes each frame it is handed to every connection, and does nothing else.

No HTTP beyond a fixed head, no keys, no stock, no asyncio: ``os.write`` on non-blocking sockets. Whoever
connects to the port for frames hands them over, each ``size`` bytes long (the only argument). Says
``{"port": N, "frames_port": N}`` first.
"""

from __future__ import annotations

import os
import select
import socket
import sys

from benchmarks.children import say_line

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n"
READ_BYTES = 65_536
BACKLOG = 1024


class BareWriter:
    """Two listening sockets and everyone who has connected to them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._poll = select.epoll()
        self._readers = _listen()
        self._tellers = _listen()
        self._sockets: dict[int, socket.socket] = {}
        self._asking: set[int] = set()
        self._answered: list[int] = []
        self._frames = bytearray()
        for listener in (self._readers, self._tellers):
            self._poll.register(listener, select.EPOLLIN)

    @property
    def ports(self) -> dict[str, int]:
        """Where it listens."""
        return {"port": self._readers.getsockname()[1], "frames_port": self._tellers.getsockname()[1]}

    def turn(self, within_s: float = -1) -> None:
        """Wait for something and do what it asks for."""
        for descriptor, _ in self._poll.poll(within_s):
            if descriptor == self._readers.fileno():
                self._asking.add(self._accept(self._readers))
            elif descriptor == self._tellers.fileno():
                self._accept(self._tellers)
            elif descriptor in self._asking:
                self._answer(descriptor)
            elif descriptor in self._sockets:
                self._take(descriptor)

    def close(self) -> None:
        """Give all sockets back."""
        for each in (self._readers, self._tellers, *self._sockets.values()):
            each.close()
        self._poll.close()

    def _accept(self, listener: socket.socket) -> int:
        connection, _ = listener.accept()
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets[connection.fileno()] = connection
        self._poll.register(connection, select.EPOLLIN)
        return connection.fileno()

    def _answer(self, descriptor: int) -> None:
        """Whatever is asked gets the same head; from then on nobody listens to this reader."""
        os.read(descriptor, READ_BYTES)
        self._poll.unregister(descriptor)
        self._asking.discard(descriptor)
        os.write(descriptor, HEAD)
        self._answered.append(descriptor)

    def _take(self, descriptor: int) -> None:
        data = os.read(descriptor, READ_BYTES)
        if not data:
            self._forget(descriptor)
            return
        self._frames += data
        while len(self._frames) >= self._size:
            frame = bytes(self._frames[: self._size])
            del self._frames[: self._size]
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        gone = []
        for descriptor in self._answered:
            try:
                written = os.write(descriptor, frame)
            except BlockingIOError:
                written = 0
            except ConnectionError:
                gone.append(descriptor)
                continue
            if written < self._size:
                self._write_rest(descriptor, frame[written:])
        for descriptor in gone:
            self._answered.remove(descriptor)
            self._sockets.pop(descriptor).close()

    @staticmethod
    def _write_rest(descriptor: int, rest: bytes) -> None:
        """Wait for a reader whose socket is full: a frame must not be lost or torn."""
        while rest:
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
            rest = rest[os.write(descriptor, rest) :]

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._sockets.pop(descriptor).close()


def _listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.settimeout(0)
    return listener


if __name__ == "__main__":
    writer = BareWriter(int(sys.argv[1]))
    say_line(writer.ports)
    while True:
        writer.turn()
