"""A real socket between a client and PostgreSQL that can be cut at the commit of a transaction."""

import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path


class CuttingProxy:
    """Listens where a client looks for a server's socket, and passes everything on.

    ``cut`` says what happens to the next commit, once: ``before`` the server sees it both
    connections end; ``after`` it has answered they end, and the answer is not passed on.
    """

    def __init__(self, server):
        self._server = str(Path(server) / ".s.PGSQL.5432")
        self.folder = tempfile.mkdtemp(prefix="assay-proxy-")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(Path(self.folder) / ".s.PGSQL.5432"))
        self._listener.listen()
        self.cut = None
        self.cuts = 0
        self._open = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join(10)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                self._open += [client, server]
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client, server):
        with suppress(OSError):
            while data := client.recv(65_536):
                if b"COMMIT" in data and self.cut is not None:
                    self.cuts += 1
                    if self.cut == "after":
                        client.shutdown(socket.SHUT_WR)  # nothing more reaches the client
                        server.sendall(data)
                        threading.Event().wait(0.2)  # the server commits meanwhile
                    self.cut = None
                    break
                server.sendall(data)
        self._end(client, server)

    def _down(self, client, server):
        with suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
        self._end(client, server)

    @staticmethod
    def _end(*both):
        for one in both:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
