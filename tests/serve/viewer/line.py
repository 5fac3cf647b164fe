"""A network between a browser and servers, which can be cut and put together again."""

from __future__ import annotations

import contextlib
import select
import socket
import threading


class Line:
    """One port that leads to a server's; ``cut`` breaks what is under way and takes no more."""

    def __init__(self, port):
        self.to = port
        self._up = True
        self._pairs = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._up:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.to))
                pair = (client, server)
                self._pairs.append(pair)
                if not self._up:  # it was cut meanwhile
                    self._end(*pair)
                    continue
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, client, server):
        other = {client: server, server: client}
        with contextlib.suppress(OSError, ValueError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return self._end(client, server)
                    other[ready].sendall(data)
        return self._end(client, server)

    def _end(self, *pair):
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self):
        self._up = False
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def join(self, port=None):
        """Up again, to the same server or another."""
        self.to = port or self.to
        self._up = True

    def close(self):
        self.cut()
        self._listener.close()
