"""The errors that are meant for a user, as one tree.

Each base class answers one question: did it go wrong at all (`FlowImagesError`), is it my input (`UsageError`), did the
server (`ServingError`) or the storage (`StorageError`) fail, may the same command go on later (`Resumable`), is another
try worth it (`Transient`). The number is the exit code of the command, 1 where there is none. A class with two bases is
drawn twice. A class that only one package raises is defined there; its module is in brackets.

FlowImagesError                 every error that is meant for a user
├── UsageError                  a wrong option, path or file: the message names it and the fix; nothing was done (2)
│   └── VersionExists           it is never overwritten [serving.model_store.publish] (2)
│       └── AlreadyPublished    of the same images and options [trainer.training_run] (2)
├── ContractError               the model's contract is missing, unknown or not kept by the server
├── ServingError                a call to a server failed: `code` is gRPC's status, `target` the address asked
│   ├── InvalidRequest          it would be refused again: wrong input, or an image that breaks the graph
│   │   ├── RequestTooLarge     the message is over a size limit: ask for fewer rows
│   │   └── MalformedAnswer     the answer lacks rows, outputs or bytes: fewer rows may be answered
│   ├── ModelNotFound           no such model or version, or no longer
│   ├── AccessDenied            credentials, or the server's certificate, are missing or refused
│   ├── Unsupported             the server does not know the call
│   ├── ClientClosed            the client was closed before the answer came
│   ├── WrongAddress            the port does not speak gRPC, or no host can have the name (2)
│   ├── ServerUnavailable       not reachable, restarting, or its queue is full (75)
│   ├── ServerBusy              out of threads or memory for now (75)
│   └── DeadlineExceeded        no answer in time (75)
├── StorageError                a disk or a bucket failed
│   ├── FileError               one file can't be read or written; others may be
│   ├── StorageDenied           the bucket refuses the credentials, whatever the file
│   │   └── NoCredentials       there are none
│   ├── StorageUnavailable      no answer, or overloaded (75)
│   ├── DiskFull                no room, or over a quota (75)
│   ├── SourceGone              all that was in an input folder or bucket is gone [beam_jobs.source_outage] (75)
│   └── OutputGone              all that a run wrote is gone [beam_jobs.plan] (75)
├── Resumable                   the same command may go on later: what is done is kept (75)
│   ├── Transient               another try, a moment later, may succeed (75)
│   │   ├── ServerUnavailable   (75)
│   │   ├── ServerBusy          (75)
│   │   ├── DeadlineExceeded    (75)
│   │   ├── StorageUnavailable  (75)
│   │   └── ClusterUnavailable  a Dask cluster's scheduler or workers are away [beam_jobs.dask.cluster] (75)
│   ├── DiskFull                (75)
│   ├── SourceGone              (75)
│   ├── OutputGone              (75)
│   ├── VersionGone             the run's model version is not served any more [beam_jobs.worker] (75)
│   ├── Interrupted             a stop was asked for [beam_jobs.stop_request] (75)
│   ├── Incomplete              images have no outcome yet [beam_jobs.results] (75)
│   ├── PublishedElsewhere      somebody publishes the same version just now [serving.model_store.publish] (75)
│   ├── MayPass                 what the trainer needs is away or full [trainer.tensorflow_errors] (75)
│   └── Unreachable             the cluster gives no answer, or none for now [k8s.deploy.cluster_errors] (75)
├── NotBlessed                  a trained model failed a gate: its report is written, and it is not published (4)
├── NotClassified               an image has no label; raised by `Classification.raise_for_reason` alone
├── NameLeadsOut                an object's name leads out of the folder it is copied to [serving.storage.transfer]
├── BrokenPart                  a part of a run was changed after it was written [beam_jobs.parts]
├── EngineFailed                docker, podman or buildah did not do what it was asked [k8s.images.engine]
└── DeployError                 the cluster refuses, or something is missing there [k8s.deploy.cluster_errors]
    ├── Forbidden               the user has no right to do this [k8s.deploy.cluster_errors]
    ├── Foreign                 an object of this name belongs to somebody else [k8s.deploy.cluster_errors] (2)
    ├── Unreachable             (75)
    ├── StillThere              the command ends, what it applied goes on [k8s.deploy.cluster_errors]
    └── Conflict                the object has changed, or others hold fields of it [k8s.deploy.cluster_errors]

Messages name options as fields in backticks, as Python spells them: `batch_size`, or `tls.ca` for a field of a field.
The command line shows them as its flags; see `serving.console.flags_in_messages`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc  # which takes half a second

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_OVER_LIMIT, EXIT_NOT_BLESSED, EXIT_RESUMABLE = 0, 1, 2, 3, 4, 75


class FlowImagesError(Exception):
    """Base of all errors meant for a user: one sentence or a few, no traceback needed.

    `args` holds all that the constructor takes, so an error can be pickled, and built again with a longer message, as
    Beam does: `type(error)(error.args[0] + step, *error.args[1:])`.
    """

    exit_code = EXIT_FAILED
    """What the command line exits with."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def add(self, more: str) -> None:
        """Makes the message longer."""
        message, *others = self.args or ("",)
        self.args = (f"{message}{more}", *others)


class UsageError(FlowImagesError):
    """A wrong option, path or input file; nothing was done."""

    exit_code = EXIT_USAGE


class NotBlessed(FlowImagesError):
    """A trained model failed a gate: its report is written, and it is not published."""

    exit_code = EXIT_NOT_BLESSED

    def __init__(self, message: str, report: str = "") -> None:
        """An error for one model.

        Args:
          message: which gates failed, and by which figures.
          report: path of report.html; beside it are evaluation.json and the other files of the model.
        """
        super().__init__(message, report)

    @property
    def report(self) -> str:
        """Path of report.html; beside it are evaluation.json and the other files of the model."""
        return str(self.args[1])


class NotClassified(FlowImagesError):
    """An image has no label: it was rejected, or failed."""

    def __init__(self, message: str, reason: str = "") -> None:
        """An error for one image.

        Args:
          message: the image, and what is wrong.
          reason: one word for programs, such as `missing`.
        """
        super().__init__(message, reason)

    @property
    def reason(self) -> str:
        """One word for programs, such as `missing` or `not_an_image`."""
        return str(self.args[1])


class ContractError(FlowImagesError):
    """The model's contract is missing, unknown to this version, or not kept by the server."""


class Resumable(FlowImagesError):
    """The same command may go on later, from where it stopped: what is done is kept."""

    exit_code = EXIT_RESUMABLE


class Transient(Resumable):
    """Another try, a moment later, may succeed; where retries are configured, they were made."""

    tried_s = 0.0
    """Seconds for which it was tried again and again; 0 where it was tried once."""

    def add_tried(self, seconds: float) -> None:
        """Says how long was tried, unless an inner loop has said so."""
        if not self.tried_s:
            self.tried_s = seconds
            self.add(f"; tried for {seconds:.0f} s")


class ServingError(FlowImagesError):
    """A call to a server failed."""

    def __init__(self, message: str, target: str = "", code: "grpc.StatusCode | None" = None) -> None:
        """An error for one call.

        Args:
          message: what happened, and the fix where one is known.
          target: the address asked, as the user spelled it.
          code: gRPC's status; None where the call was not made, or was answered OK with a wrong answer.
        """
        super().__init__(message, target, code)

    @property
    def target(self) -> str:
        """The address asked; empty if the call was not made."""
        return str(self.args[1])

    @property
    def code(self) -> "grpc.StatusCode | None":
        """gRPC's status; None where the call was not made, or was answered OK with a wrong answer."""
        code: grpc.StatusCode | None = self.args[2]
        return code

    def __str__(self) -> str:
        return f"{self.args[0]} (asked {self.target})" if self.target else super().__str__()


class InvalidRequest(ServingError):
    """The server, or our own check before sending, refuses this request; asking again would not help."""


class RequestTooLarge(InvalidRequest):
    """The message is over the server's or the client's size limit; fewer rows may fit."""


class MalformedAnswer(InvalidRequest):
    """The answer is not one to the request: rows, outputs or bytes are missing, or of another kind."""


class ModelNotFound(ServingError):
    """The server has no such model or version."""


class AccessDenied(ServingError):
    """Credentials are missing or refused, or the server's certificate is."""


class Unsupported(ServingError):
    """The server does not know the call."""


class WrongAddress(ServingError):
    """What listens at the address speaks no gRPC, or there can't be such an address."""

    exit_code = EXIT_USAGE


class ClientClosed(ServingError):
    """The client was closed, before the call or while it was in flight."""


class ServerUnavailable(ServingError, Transient):
    """The server can't be reached, restarts, or its batching queue is full."""


class ServerBusy(ServingError, Transient):
    """Out of threads, queue places or memory for now."""


class DeadlineExceeded(ServingError, Transient):
    """No answer within the deadline."""


class StorageError(FlowImagesError):
    """A disk or a bucket failed."""


class FileError(StorageError):
    """One file can't be read or written, and trying again would not help; other files may be fine."""


class StorageDenied(StorageError):
    """The bucket refuses the credentials, whatever the file."""


class NoCredentials(StorageDenied):
    """No credentials were found for the store; a pod has none in the first seconds after its start."""


class StorageUnavailable(StorageError, Transient):
    """The storage does not answer, or says it is overloaded."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        """An error for one call.

        Args:
          message: what happened.
          retry_after_s: how long the store asks to be left alone; 0 where it doesn't say.
        """
        super().__init__(message, retry_after_s)

    @property
    def retry_after_s(self) -> float:
        """Seconds that the store asks to be left alone; 0 where it doesn't say."""
        return float(self.args[1])


class DiskFull(StorageError, Resumable):
    """No room, or over a quota: not retried automatically, as the user has to make room."""
