"""A server in place of Kubernetes' own, or of a bucket, that gives every request the same answer."""

import http.server
import socket
import threading
from pathlib import Path

import yaml


class Answers:
    """A server in place of Kubernetes' own, or of a bucket, that gives every request the same answer."""

    def __init__(self, folder: Path) -> None:
        self.status, self.body, self.cut, self.asked = 200, b"", False, threading.Event()
        self.waits: threading.Event | None = None
        answers = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                answers.asked.set()
                if answers.waits:
                    answers.waits.wait()
                if answers.cut:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(answers.status)
                self.send_header("Content-Length", str(len(answers.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answers.body)

            do_GET = do_POST = do_PATCH = do_PUT = do_HEAD = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.kubeconfig = f"--kubeconfig={kubeconfig(folder, self.url)}"


def kubeconfig(folder: Path, server: str) -> Path:
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(written))
    return folder / "config"
