"""`flow-images deploy`, ended by a signal while it asks the cluster."""

import signal
import subprocess
import sys
import threading

import pytest

from tests.k8s.answers import Answers
from tests.k8s.builds import K8S, kubectl

needs_kubectl = pytest.mark.skipif(kubectl() is None, reason="needs kubectl")


@needs_kubectl
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [["status"], ["serve"], ["cleanup", "--all"], ["suspend", "p"]])
def test_interrupted_before_it_changes_anything_it_says_so(words: list[str], number: int, answers: Answers) -> None:
    answers.waits = threading.Event()
    command = [sys.executable, "-m", "flow_images", "deploy", words[0], answers.kubeconfig, *words[1:]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=K8S.parent) as process:
        assert answers.asked.wait(60)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert said == "flow-images deploy: interrupted: nothing was changed in the cluster\n"
