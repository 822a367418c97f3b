"""Waits inside a pod until a server has loaded a model.

python -m k8s.pods.wait_for_model --url http://serving:8501 …
"""

import http.client
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import click

from k8s.plain_lines import say
from serving.console.option_flags import Number
from serving.errors import EXIT_RESUMABLE


def loaded(url: str, model_name: str) -> bool:
    """Whether some version of the model can be asked now. The metadata page is 404 until then, or unreachable."""
    page = f"{url}/v1/models/{urllib.parse.quote(model_name, safe='')}/metadata"
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _is_address(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # A port that is not a number.
        return False


@click.command()
@click.option("--url", required=True, help="The server's REST address, http://HOST:PORT.")
@click.option("--model-name", required=True)
@click.option("--timeout", type=Number(min=0), default=7200, show_default=True, help="Seconds.")
@click.option(
    "--every", type=Number(min=0, min_open=True), default=2, show_default=True, help="Seconds between two looks."
)
def main(url: str, model_name: str, timeout: float, every: float) -> None:
    """Wait until a model is loaded; exit code 75 when the time-out has passed."""
    if not _is_address(url):
        raise click.UsageError(f"--url must be http://HOST:PORT, not {url}")
    end = time.monotonic() + timeout
    say(f"waiting for model {model_name} at {url}")
    while not loaded(url, model_name):
        if time.monotonic() > end:
            say(f"model {model_name} is not loaded at {url} after {timeout:g} s", err=True)
            sys.exit(EXIT_RESUMABLE)
        time.sleep(every)


if __name__ == "__main__":
    main()
