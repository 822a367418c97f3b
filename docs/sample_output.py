"""Writes into README and docs what the commands of their `console` blocks print: `make docs-samples`."""

import tempfile
from pathlib import Path

from docs.examples import ROOT, free_ports, lay_out, session, snippets


def main() -> None:
    """Runs each block in a fresh copy of the examples' folder, and puts its output into the page."""
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        lay_out(folder, per_class=25)
        for block in snippets("console"):
            page = ROOT / block.page
            said = session(block, folder, free_ports(block.code))
            page.write_text(page.read_text(encoding="utf-8").replace(block.code, said), encoding="utf-8")
            print(block.name)


if __name__ == "__main__":
    main()
