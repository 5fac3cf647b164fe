"""A TCP proxy that breaks off: each answer's stream is cut inside a frame, then inside a later one …"""

from __future__ import annotations

import contextlib
import random
import socket
import threading

FRAME = b"data: "


class CuttingProxy:
    """``every``: so many frames are let through whole; of the next one a part, of any length.

    ``ports`` are the servers' that connections go to in turn; replace them as servers come and go.
    """

    def __init__(self, *ports, every=10):
        self.ports = list(ports)
        self.every = every
        self.cuts = 0
        self._taken = 0
        self._random = random.Random(every)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._open = {self._listening}
        self._threads = []
        self._start(self._accept)

    def stop(self):
        for each in list(self._open):
            self._close(each)
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _start(self, *call):
        self._threads.append(threading.Thread(target=call[0], args=call[1:], daemon=True))
        self._threads[-1].start()

    def _close(self, *sockets):
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._open.discard(each)

    def _accept(self):
        while True:
            try:
                reader, _ = self._listening.accept()
            except OSError:
                return
            self._taken += 1
            try:
                server = socket.create_connection(
                    ("127.0.0.1", self.ports[self._taken % len(self.ports)])
                )
            except OSError:  # it is away
                reader.close()
                continue
            self._open |= {reader, server}
            self._start(self._pass_on, reader, server)
            self._start(self._answer, server, reader)

    def _pass_on(self, reader, server):
        with contextlib.suppress(OSError):
            while data := reader.recv(65536):
                server.sendall(data)
        self._close(server)

    def _answer(self, server, reader):
        seen = 0
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                places = [i for i in range(len(data)) if data.startswith(FRAME, i)]
                if seen + len(places) > self.every:
                    place = places[self.every - seen] + self._random.randrange(1, 24)
                    self.cuts += 1
                    reader.sendall(data[:place])
                    break
                seen += len(places)
                reader.sendall(data)
        self._close(reader, server)
