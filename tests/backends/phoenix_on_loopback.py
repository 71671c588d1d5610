"""Serves Phoenix on loopback only: by itself it opens its gRPC port to the network.

Run by the Python of Phoenix's own environment, which has none of this project's packages.
"""

import sys

import grpc.aio

_server = grpc.aio.server


def _on_loopback(*args, **options):
    server = _server(*args, **options)
    add = server.add_insecure_port
    server.add_insecure_port = lambda address: add(address.replace("[::]", "127.0.0.1"))
    return server


if __name__ == "__main__":
    grpc.aio.server = _on_loopback
    sys.argv = ["phoenix", "serve"]
    from phoenix.server.main import main

    main()
