"""Programs that build container images: docker, podman or buildah, whichever is there and works."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.errors import FlowImagesError, UsageError

CONTAINERFILE = "k8s/images/Containerfile"
"""In what is built from."""
ANSWER_S = 30
"""How long an engine may take to say that it is there."""


class EngineFailed(FlowImagesError):
    """The engine did not do what it was asked."""


class Engine:
    """An engine that is called as docker is."""

    name = "docker"

    def obstacle(self) -> str | None:
        """Why it can't be used, or nothing."""
        if not shutil.which(self.name):
            return "is not installed"
        try:
            self.ask("info", within_s=ANSWER_S)
        except EngineFailed as error:
            return f"is installed, but does not work: {error}"
        return None

    def ask(self, *arguments: str, within_s: float | None = None) -> str:
        """What a call of it prints.

        Raises:
          EngineFailed: it failed; the message is the last line that it said.
        """
        try:
            done = subprocess.run([self.name, *arguments], capture_output=True, text=True, timeout=within_s)
        except subprocess.TimeoutExpired:
            raise EngineFailed(f"no answer in {within_s:.0f} s") from None
        if done.returncode:
            lines = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
            raise EngineFailed(lines[-1].removeprefix("Error: "))
        return done.stdout

    def digest_of_base(self, base: str) -> str:
        """The digest of a base image, which is pulled if it isn't here.

        Raises:
          UsageError: there is no such image.
        """
        try:
            return self._digest_here(base)
        except EngineFailed:
            pass
        try:
            self.ask("pull", base)
            return self._digest_here(base)
        except EngineFailed as error:
            raise UsageError(f"BASE={base} can't be had: {error}") from None

    def _digest_here(self, image: str) -> str:
        of_registries = self.ask("image", "inspect", "--format", '{{join .RepoDigests " "}}', image).split()
        # One that was built here, and never pushed, has only the digest of its configuration.
        return (of_registries or [self.ask("image", "inspect", "--format", "{{.Id}}", image).strip()])[0].split("@")[-1]

    def build(
        self,
        context: Path,
        stage: str,
        image: str,
        *,
        values: Mapping[str, str],
        labels: Mapping[str, str],
        epoch: int,
        more: Sequence[str] = (),
    ) -> None:
        """Builds one stage of a Containerfile; what the engine says on the way goes to the standard error.

        Args:
          context: the folder that is built from.
          stage: the stage's name.
          image: what the image is called, with its tag.
          values: of the build's arguments.
          labels: which the image gets besides those of its Containerfile.
          epoch: when it was made, in seconds since 1970, as the same commit shall give the same image.
          more: further arguments for the engine.
        """
        pairs = [("--build-arg", f"{key}={value}") for key, value in values.items()]
        pairs += [("--label", f"{key}={value}") for key, value in labels.items()]
        command = [self.name, "build", "--target", stage, "--tag", image, *sum(pairs, ()), *self._made_at(epoch), *more]
        command += ["--file", str(context / CONTAINERFILE), str(context)]
        if code := subprocess.run(command, stdout=sys.stderr).returncode:
            raise EngineFailed(f"{self.name} did not build {image} (exit code {code}): its last lines say why.")

    def _made_at(self, epoch: int) -> list[str]:
        return ["--build-arg", f"SOURCE_DATE_EPOCH={epoch}"]

    def push(self, image: str) -> str:
        """Pushes an image to the registry of its name, and returns its digest there."""
        try:
            return self._push(image)
        except EngineFailed as error:
            registry, said = image.split("/")[0], str(error)
            if re.search(r"unauthorized|authentication required|denied|forbidden|no basic auth", said, re.IGNORECASE):
                said += f". Are you logged in, and may you push there? `{self.name} login {registry}`"
            raise EngineFailed(f"{image} was built, and can't be pushed: {said}") from None

    def _push(self, image: str) -> str:
        found = re.search(r"digest: (sha256:[0-9a-f]{64})", self.ask("push", image))
        if not found:
            raise EngineFailed(f"{self.name} does not say which digest it has")
        return found[1]

    def size(self, image: str) -> str:
        """What it takes on a disk, in words."""
        return self.ask("images", "--format", "{{.Size}}", image).split("\n")[0]

    def copy_from(self, image: str, path: str, target: Path) -> None:
        """Copies a file out of an image, which is not run."""
        container = self.ask("create", image).strip()
        try:
            self.ask("cp", f"{container}:{path}", str(target))
        finally:
            self.ask("rm", container)


class Podman(Engine):
    """Podman; what it does besides is what buildah does, too."""

    name = "podman"

    def _made_at(self, epoch: int) -> list[str]:
        return [*super()._made_at(epoch), "--timestamp", str(epoch), "--layers"]

    def _push(self, image: str) -> str:
        with tempfile.NamedTemporaryFile() as file:
            self.ask("push", "--digestfile", file.name, image)
            return Path(file.name).read_text().strip()


class Buildah(Podman):
    """Buildah, which builds and does nothing else."""

    name = "buildah"

    def _digest_here(self, image: str) -> str:
        return self.ask("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", image).strip()

    def copy_from(self, image: str, path: str, target: Path) -> None:
        """Copies a file out of an image, by an image of that file alone."""
        with tempfile.TemporaryDirectory() as folder:
            file, made = Path(folder, "Containerfile"), Path(folder, "made")
            file.write_text(f"FROM scratch\nCOPY --from={image} {path} /file\n")
            self.ask("build", "--output", f"type=local,dest={made}", "--file", str(file), folder)
            shutil.copyfile(made / "file", target)


ENGINES: dict[str, type[Engine]] = {kind.name: kind for kind in (Engine, Podman, Buildah)}
"""By name, in the order in which they are tried."""


def find(wanted: str | None) -> tuple[Engine, list[str]]:
    """An engine that works, and what is in the way of those that were tried before it.

    Args:
      wanted: the one to take; any if it is nothing.

    Raises:
      UsageError: none works.
    """
    tried: list[str] = []
    for name in [wanted] if wanted else ENGINES:
        engine = ENGINES[name]()
        obstacle = engine.obstacle()
        if not obstacle:
            return engine, tried
        tried.append(f"{name} {obstacle}")
    raise UsageError(f"Nothing here builds images: {'; '.join(tried)}")
