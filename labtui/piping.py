"""``labtui kernel pipe``: copy bytes between a socket and stdio until either end closes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from labtui_kernels.protocol import PREAMBLE

CHUNK = 1 << 18


def shuttle(connection: socket.socket, source: int = 0, sink: int = 1) -> None:
    """Write the preamble to ``sink``, then copy both ways until the kernel or the other end has gone."""
    _write_all(sink, PREAMBLE)

    def up() -> None:
        try:
            while data := os.read(source, CHUNK):
                connection.sendall(data)
        except OSError:
            pass  # either side has gone, which the end of the other copy shows
        with contextlib.suppress(OSError):  # closed already from the kernel's side
            connection.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=up, name="up", daemon=True).start()
    try:
        while data := connection.recv(CHUNK):
            _write_all(sink, data)
    except OSError:
        pass  # the other end of the pipe has gone
    connection.close()


def _write_all(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]
