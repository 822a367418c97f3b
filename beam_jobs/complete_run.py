"""A run that is complete, opened to be read: what run.json says of it, and its images' answers and faults."""

from collections.abc import Iterator

from beam_jobs.chunk_work import ChunkWork
from beam_jobs.manifest import Row
from beam_jobs.plan import RunFolder
from beam_jobs.result_files import Answer, Fault, read_answers, read_faults, read_run
from beam_jobs.results import RUN, Incomplete
from serving.console.option_fields import option_fields
from serving.errors import UsageError
from serving.images.limits import ImageLimits


class CompleteRun:
    """The results of a run. What lies in `_state` is used where it is there."""

    def __init__(self, folder: RunFolder) -> None:
        """Reads run.json and the plan.

        Args:
          folder: of the run.

        Raises:
          UsageError: there is no run in the folder, or run.json was changed.
          Incomplete: the run is not complete.
        """
        self.folder = folder
        self.plan = folder.load_plan()
        """None where the run's own files are gone."""
        try:
            self.facts = read_run(folder.storage, folder.output)
        except FileNotFoundError as error:
            if self.plan:
                raise Incomplete(
                    f"{folder.output}: the run is not complete (no {RUN}): the command that began it continues it"
                ) from error
            raise UsageError(f"{folder.output}: no run in it (no {RUN})") from error

    def answers(self) -> Iterator[Answer]:
        """Each image that was predicted; raises UsageError for a file that was changed."""
        rows = self.rows() if self.plan else None
        return read_answers(self.folder.storage, self.folder.output, rows, self.facts.forms.formats)

    def faults(self) -> Iterator[Fault]:
        """Each image that was rejected, then each that failed; raises UsageError for a file that was changed."""
        return read_faults(self.folder.storage, self.folder.output)

    @property
    def threshold(self) -> float:
        """The run's, or of one from an earlier release the model's; 0 for none."""
        if self.facts.knows_threshold or not self.plan:
            return self.facts.forms.threshold
        return self.plan.model.contract.threshold or 0.0

    def works(self) -> list[ChunkWork]:
        """How its chunks were worked through, as far as it is known."""
        return self.folder.parts(self.plan).works() if self.plan else []

    def locate(self, path: str) -> str:
        """Where the file of an image is; without the plan, below the working directory."""
        return self.plan.locate(path) if self.plan else path

    @property
    def limits(self) -> ImageLimits:
        """What an image could cost in this run."""
        options = self.facts.options
        return ImageLimits(**{name: options[name] for name in option_fields(ImageLimits) if name in options})

    def changes(self, predicted: int, rejected: int, failed: int) -> list[str]:
        """What the files hold that run.json does not say, in words.

        Args:
          predicted: images in the files of predictions.
          rejected: images in rejected.csv.
          failed: images in failed.csv.
        """
        run = self.facts
        counts = (("predicted", predicted, run.predicted), ("rejected", rejected, run.rejected))
        return [
            f"{verdict} images: {found:,} in the files, {said:,} in run.json"
            for verdict, found, said in (*counts, ("failed", failed, run.failed))
            if found != said
        ]

    def rows(self) -> Iterator[Row]:
        """The rows of the manifest, in order; none without the plan."""
        if self.plan:
            for chunk in range(self.plan.manifest.chunks):
                yield from self.folder.read_chunk(self.plan, chunk)
