"""The worker's side of the connection to its broker."""

from __future__ import annotations

import os
import queue
import socket
import threading

from labtui_kernels import protocol


class BrokerLink:
    """Frames to and from the broker over the socket pair.

    Any thread may :meth:`send`. A reader thread fills ``inbox``; when the broker has gone, the process ends
    at once, because nothing that it could still do would be seen by anyone.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self.inbox: queue.SimpleQueue[protocol.ToWorker] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="broker-reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._reader.start()

    def send(self, message: protocol.FromWorker) -> None:
        """Send one message; waits while the broker holds back."""
        frame = protocol.encode(message)
        try:
            with self._lock:
                self._socket.sendall(frame)
        except OSError:
            os._exit(1)

    def _read(self) -> None:
        frames = protocol.Frames()
        try:
            while data := self._socket.recv(1 << 18):
                for body in frames.feed(data):
                    self.inbox.put(protocol.decode_to_worker(body))
        finally:
            os._exit(1)
