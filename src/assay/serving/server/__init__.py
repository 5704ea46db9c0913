"""Processes that serve.

1. :mod:`~assay.serving.server.http_server` runs a service in one, on ports and sockets
   (:mod:`~assay.serving.server.unix_socket`), with as many connections as files may be open
   (:mod:`~assay.serving.server.descriptors`).
2. :mod:`~assay.serving.server.supervisor` looks after several of them, each a
   :mod:`~assay.serving.server.worker`.
"""
