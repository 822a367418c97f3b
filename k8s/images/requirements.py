"""Prints what the project and some of its extras depend on, so that an image gets it before the project's own code.

python requirements.py EXTRA,EXTRA < pyproject.toml
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any


def requirements(project: dict[str, Any], extras: Iterable[str]) -> Iterator[str]:
    """The dependencies of a project with extras; an extra that names others of the same project includes theirs."""
    yield from project["dependencies"]
    for extra in extras:
        for requirement in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project['name']}\[(.*)\]", requirement)
            yield from requirements(project, own[1].split(",")) if own else [requirement]


if __name__ == "__main__":
    described = tomllib.load(sys.stdin.buffer)["project"]
    print("\n".join(dict.fromkeys(requirements(described, sys.argv[1].split(",")))))
