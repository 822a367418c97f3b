"""The server's ports: gRPC, REST and metrics."""
