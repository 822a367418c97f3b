"""Builds the images of Flow Images, and pushes them: `make images REGISTRY=registry.example/team PUSH=1`.

It needs Python alone, none of our packages, so that a machine that builds images need not install them.
"""

import argparse
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from k8s.images.checkout import Commit, commit, copy_context
from k8s.images.engine import CONTAINERFILE, ENGINES, Engine, find
from serving.errors import FlowImagesError, UsageError

ROOT = Path(__file__).resolve().parents[2]
IMAGES = {"trainer": "trainer", "predict": "predict,dask", "server": "serve"}
"""The stages of the Containerfile, and the extras of our distribution that each installs."""
WITH_EXTRAS = ("trainer", "predict")
"""The images that read and write buckets themselves."""
OURS = "flow-images"
SBOM = "/usr/share/sbom/flow-images.spdx.json"
"""Where an image says which packages it has."""
_LABEL = "org.opencontainers.image."


@dataclass(frozen=True)
class Wanted:
    """Which images are built, and what they are called."""

    images: Sequence[str]
    registry: str
    tag: str
    extras: Sequence[str]

    def extras_of(self, image: str) -> Sequence[str]:
        """What is installed besides, by our distribution's names."""
        return self.extras if image in WITH_EXTRAS else ()

    def tag_of(self, image: str) -> str:
        """The tag with the extras behind it, as the manifests have it."""
        return "-".join([self.tag, *self.extras_of(image)])

    def repository(self, image: str) -> str:
        """The whole name, without its tag; all engines and nodes take a name without a host for Docker Hub's."""
        host, *path = self.registry.split("/")
        is_host = host == "localhost" or "." in host or ":" in host
        return "/".join([*([] if is_host else ["docker.io"]), host, *path, image])

    def name(self, image: str) -> str:
        """The whole name."""
        return f"{self.repository(image)}:{self.tag_of(image)}"


@dataclass(frozen=True)
class Built:
    """An image that is there."""

    image: str
    size: str
    digest: str | None
    """In the registry that it was pushed to."""


def base_image(given: str | None, root: Path, engine: Engine) -> tuple[str, str]:
    """The base image's name and digest.

    Args:
      given: a name, with or without digest; nothing for the one of the Containerfile.
      root: the checkout's.
      engine: which looks up the digest, if it isn't given.
    """
    base = given or re.findall(r"^ARG BASE=(\S+)", (root / CONTAINERFILE).read_text(), re.MULTILINE)[0]
    name, _, digest = base.partition("@")
    return name, digest or engine.digest_of_base(name)


def labels(at: Commit, base: tuple[str, str]) -> dict[str, str]:
    """What an image says about its origin, beyond the labels of the Containerfile."""
    return {
        f"{_LABEL}revision": at.revision,
        f"{_LABEL}created": datetime.fromtimestamp(at.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        f"{_LABEL}base.name": base[0],
        f"{_LABEL}base.digest": base[1],
        f"{OURS}.describe": at.described,
    }


def overlay_lines(wanted: Wanted, built: Iterable[Built]) -> str:
    """The list `images` of a kustomization that takes what was built."""
    lines = ["images:"]
    for one in built:
        version = f"digest: {one.digest}" if one.digest else f'newTag: "{wanted.tag_of(one.image)}"'
        lines.append(f"- {{name: {OURS}/{one.image}, newName: {wanted.repository(one.image)}, {version}}}")
    return "\n".join(lines)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what comes after `--` is for the engine."""
    own, more = arguments, list[str]()
    if "--" in arguments:
        at = list(arguments).index("--")
        own, more = arguments[:at], list(arguments[at + 1 :])
    parser = argparse.ArgumentParser(prog="python -m k8s.images.build", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("images", nargs="*", metavar="IMAGE", default=list(IMAGES), help=f"{', '.join(IMAGES)}; all without any.")
    add("--registry", default=OURS, help="Host and path before each image's name.")
    add("--push", action="store_true", help="Push them there.")
    add("--tag", help="Instead of the version of pyproject.toml.")
    add("--extras", default="", help="Of trainer and predict, for buckets, such as gcs; they end their tag, too.")
    add("--engine", choices=list(ENGINES), help="The one to take, instead of the first that works.")
    add("--base", help="The base image instead of the Containerfile's, with or without @sha256:…")
    add(
        "--keep", action="store_true", help="Name what was installed, too, so that a prune leaves it for the next time."
    )
    add("--sboms", type=Path, default=Path("dist/sbom"), help="The folder for lists of packages (SPDX).")
    parsed = parser.parse_args(list(own))
    parsed.more = more
    return parsed


def understood(options: argparse.Namespace, root: Path) -> Wanted:
    """What the options ask for.

    Raises:
      UsageError: a name that can't be one.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = Wanted(
        images=list(dict.fromkeys(options.images)),
        registry=options.registry.rstrip("/"),
        tag=options.tag or project["version"],
        extras=[extra for extra in re.split(r"[,\s]+", options.extras) if extra],
    )
    if unknown := [image for image in wanted.images if image not in IMAGES]:
        raise UsageError(f"There is no image {unknown[0]!r}. There are {', '.join(IMAGES)}.")
    if unknown := [extra for extra in wanted.extras if extra not in project["optional-dependencies"]]:
        raise UsageError(f"EXTRAS={options.extras}: there is no extra {unknown[0]!r}; for buckets: gcs, s3, azure.")
    part = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
    if not re.fullmatch(rf"({part}|[A-Za-z0-9.-]+:\d+)(/{part})*", wanted.registry):
        raise UsageError(
            f"REGISTRY={options.registry} can't begin an image's name. "
            "It is a host and a path in small letters, such as registry.example/team."
        )
    if options.push and options.registry == OURS:
        raise UsageError("PUSH=1 needs a registry, such as REGISTRY=registry.example/team.")
    if not re.fullmatch(r"\w[\w.-]{0,100}", wanted.tag, re.ASCII):
        raise UsageError(f"TAG={wanted.tag} can't be a tag: letters, digits, points, hyphens.")
    return wanted


def run(options: argparse.Namespace, root: Path) -> None:
    """Builds, pushes if asked, and says what there is now."""
    wanted = understood(options, root)
    engine, tried = find(options.engine)
    for line in tried:
        say(line)
    at, base = commit(root), base_image(options.base, root, engine)
    say(f"Building with {engine.name} on {'@'.join(base)}.")
    if at.is_dirty:
        say(f"The checkout has changes that are in no commit: the images' revision is {at.revision}.")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        copy_context(root, context)
        for image in wanted.images:
            values = {"EXTRAS": ",".join([IMAGES[image], *wanted.extras_of(image)])}
            if options.base:
                values["BASE"] = options.base
            build = partial(engine.build, context, values=values, epoch=at.time, more=options.more)
            if options.keep:
                build(
                    f"build-{image}", "-".join([f"localhost/build-{image}:latest", *wanted.extras_of(image)]), labels={}
                )
            build(image, wanted.name(image), labels=labels(at, base))
            sbom = root / options.sboms / f"{image}-{wanted.tag_of(image)}.spdx.json"
            sbom.parent.mkdir(parents=True, exist_ok=True)
            engine.copy_from(wanted.name(image), SBOM, sbom)
    # Nothing is pushed before all are built.
    names = {image: wanted.name(image) for image in wanted.images}
    built = [
        Built(image, engine.size(name), engine.push(name) if options.push else None) for image, name in names.items()
    ]
    width = max(len(wanted.name(one.image)) for one in built)
    for one in built:
        say(f"{wanted.name(one.image):{width}}  {one.size:>8}  {one.digest or ''}".rstrip())
    say(f"Lists of their packages: {options.sboms}")
    print(overlay_lines(wanted, built))


def say(line: str) -> None:
    """To a person; the standard output is the list for an overlay."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    try:
        run(parse(arguments), root)
    except FlowImagesError as error:
        say(f"Error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("Stopped; what is built remains in the engine's cache.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
