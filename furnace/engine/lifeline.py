"""Ends this process soon after another process of the run has ended, whatever this one waits for.

On GPUs, processes wait for each other within CUDA. There a process does not notice that another one has ended until
NCCL's time-out is over, and signals do not reach it, because Python's handlers run between two instructions of Python.
So every process holds a connection to the first one. The system closes the connections of a process that ends, however
it ends, and a thread hears of it at once: it runs while the main thread waits within a library. The first process tells
the others.
"""

import os
import secrets
import selectors
import socket
import struct
import threading
from collections.abc import Mapping
from contextlib import suppress

from furnace.engine.board import Board
from furnace.engine.place import Place
from furnace.engine.signals import end_within
from furnace.errors import EXIT_FAILED

GRACE = 3.0  # seconds in which a process that is ending for a reason of its own gets to say it
SILENCE = 120.0  # seconds without an answer of another machine's system, after which the machine counts as gone
GREETING_LIMIT = 10.0  # seconds; whoever connects and says nothing is no process of this run
WORD = struct.Struct("!I")  # what is told: the rank of a process that has ended, or DONE
DONE = 2**32 - 1  # whoever says this ends as it should


class Lifeline:
    """Connections to other processes, and the thread that listens to them.

    Args:
        place: of this process.
        connections: by rank; the first process holds one to each other process, these hold one to the first.
    """

    def __init__(self, place: Place, connections: Mapping[int, socket.socket]) -> None:
        self._place, self._connections = place, connections
        self._left = threading.Event()
        os.register_at_fork(after_in_child=self._close)  # else a loading worker would keep them open
        threading.Thread(target=self._listen, daemon=True).start()

    def leave(self) -> None:
        """Lets this process, and all others once they have called this too, end without being missed."""
        self._left.set()
        self._tell(DONE)

    def _listen(self) -> None:
        """Waits until a process has ended without having said that it is done, or until all have said it."""
        with selectors.PollSelector() as selector:
            for rank, connection in self._connections.items():
                selector.register(connection, selectors.EVENT_READ, rank)
            while selector.get_map():
                for key, _ in selector.select():
                    assert isinstance(key.fileobj, socket.socket)
                    if (word := _hear(key.fileobj)) != DONE:
                        self._end(key.data if word is None else word)
                        return
                    selector.unregister(key.fileobj)

    def _end(self, rank: int) -> None:
        """Tells the other processes that the process of this rank has ended, and ends this one."""
        self._tell(rank)
        if self._place.local_rank > 0:  # a little later, so that torchrun does not end the one that speaks
            end_within(GRACE + 1, EXIT_FAILED, unless=self._left)
            return
        words = f"process {rank} of {self._place.size} has ended, or its machine does not answer: see what is said of "
        words += "it; what was saved stays, start again to go on"
        end_within(GRACE, EXIT_FAILED, words, self._left)

    def _tell(self, word: int) -> None:
        for connection in self._connections.values():
            with suppress(OSError):  # that process has ended
                connection.sendall(WORD.pack(word))

    def _close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def hold_lifeline(board: Board, place: Place, address: str, seconds: float) -> Lifeline:
    """Connects all processes, and begins to listen.

    Args:
        board: where all processes of this start read what one has written.
        place: of this process.
        address: of the first process's machine.
        seconds: how long the processes of the run wait for each other.

    Raises:
        OSError: a process does not come within this time.
    """
    if place.rank > 0:
        port, token = board.get("lifeline").decode().split()
        connection = socket.create_connection((address, int(port)), timeout=seconds)
        connection.sendall(_greeting(token, place.rank))
        connections = {0: connection}
    else:
        with _server(place.size) as server:
            server.settimeout(seconds)
            token = secrets.token_hex(16)
            board.set("lifeline", f"{server.getsockname()[1]} {token}")
            connections = _gather(server, token, place.size)
    for connection in connections.values():
        connection.settimeout(None)
        _notice_silence(connection, min(SILENCE, seconds / 2))
    return Lifeline(place, connections)


def _server(size: int) -> socket.socket:
    """Returns a socket that listens on a free port, to addresses of both kinds where the system has both."""
    waiting = max(128, size)  # connections that are not accepted yet; the system drops others for seconds
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, backlog=waiting, dualstack_ipv6=True)
    return socket.create_server(("", 0), backlog=waiting)


def _greeting(token: str, rank: int) -> bytes:
    return f"{token}{rank:10}".encode()


def _gather(server: socket.socket, token: str, size: int) -> dict[int, socket.socket]:
    """Waits for all other processes; strangers, such as a scanner of ports, are turned away."""
    expected = {_greeting(token, rank): rank for rank in range(1, size)}
    connections: dict[int, socket.socket] = {}
    while len(connections) < len(expected):
        connection, _ = server.accept()
        connection.settimeout(GREETING_LIMIT)
        greeting = _receive(connection, len(_greeting(token, 0)))
        if greeting in expected:
            connections[expected[greeting]] = connection
        else:
            connection.close()
    return connections


def _notice_silence(connection: socket.socket, seconds: float) -> None:
    """Lets the system ask the other machine's for signs of life, and give up after about so many seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(seconds / 2)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(seconds / 10)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)


def _hear(connection: socket.socket) -> int | None:
    """Returns what the other process says; None if it has ended, or its machine does not answer."""
    said = _receive(connection, WORD.size)
    return WORD.unpack(said)[0] if len(said) == WORD.size else None


def _receive(connection: socket.socket, count: int) -> bytes:
    """Returns the next `count` bytes, and none of those behind; fewer if no more come."""
    received = b""
    with suppress(OSError):
        while len(received) < count and (more := connection.recv(count - len(received))):
            received += more
    return received
