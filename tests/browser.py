"""A page in a real Chromium, at the width of a phone or a desktop."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


def ask(page: Path, question: str, width: int = 1280) -> str:
    """What a browser answers about a page that it shows.

    Args:
      page: an HTML file.
      question: an expression in JavaScript about `page`, the window of the page; its value is the answer.
      width: of the window, in pixels. Headless Chromium's own is at least 500 wide, so the page is put into a frame.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium")
    frame = page.with_suffix(".frame.html")
    frame.write_text(
        f"<iframe id=f src='{page.name}' width={width} height=900></iframe><pre id=a></pre><script>f.onload = () => {{"
        f"const page = f.contentWindow; a.textContent = 'ANSWER ' + ({question}) }}</script>"
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={page.with_suffix('.profile')}", "--virtual-time-budget=5000", "--dump-dom",
         f"file://{frame}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="a">ANSWER (.*)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return found[1]


def is_as_wide_as_its_window(page: Path, width: int) -> bool:
    """Is there nothing of a page that one has to scroll sideways for, but what scrolls by itself?"""
    inner = "page.document.documentElement"
    return ask(page, f"{inner}.scrollWidth <= {inner}.clientWidth", width) == "true"
