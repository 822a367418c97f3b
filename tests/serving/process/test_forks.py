"""gRPC in a process that was forked: what may hang there is refused at once."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import MODEL_NAME

_SCRIPT = """
import os, sys
import flow_images as fi

def ask(address):
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            fi.Client(address, {model!r}, patience_s=0).contract()
            print("answered")
        except Exception as error:
            print(type(error).__name__, error)
        sys.stdout.flush()
        os._exit(0)
    os.wait()

with fi.EmbeddedServer({store!r}, model_name={model!r}) as server:
    ask(server.address)
ask("127.0.0.1:1")
with fi.ServerProcess({store!r}, model_name={model!r}) as server:
    ask(server.address)
"""


def test_a_process_forked_while_a_server_ran_is_told_of_spawn(model_store: Path) -> None:
    script = _SCRIPT.format(store=str(model_store), model=MODEL_NAME)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    beside, after, elsewhere = done.stdout.splitlines()
    assert beside.startswith("UsageError this process was forked")
    assert "`spawn`" in beside
    assert after.startswith("ServerUnavailable")
    assert elsewhere == "answered"
