"""The errors that Flow Images raises for its user, as one tree; `FlowImagesError` is the base of all.

    try:
        fi.predict(inputs=["photos/"], output="out", server="serving:8500", model_name="dogs")
    except fi.errors.Resumable:
        ...  # the same call continues, once the server or the bucket is back

`UsageError` is a wrong argument or file, and nothing was done; `ContractError` a server that does not keep the model's
contract; `ServingError` a call to a server and `StorageError` a disk or bucket that failed; `Resumable` what the same
call may complete later. Errors of one package alone, such as an interrupted run, are subclasses of these.
"""

from serving.errors import (
    AccessDenied,
    ClientClosed,
    ContractError,
    DeadlineExceeded,
    DiskFull,
    FileError,
    FlowImagesError,
    InvalidRequest,
    MalformedAnswer,
    ModelNotFound,
    NoCredentials,
    NotBlessed,
    NotClassified,
    RequestTooLarge,
    Resumable,
    ServerBusy,
    ServerUnavailable,
    ServingError,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    Transient,
    Unsupported,
    UsageError,
    WrongAddress,
)

__all__ = [
    "AccessDenied",
    "ClientClosed",
    "ContractError",
    "DeadlineExceeded",
    "DiskFull",
    "FileError",
    "FlowImagesError",
    "InvalidRequest",
    "MalformedAnswer",
    "ModelNotFound",
    "NoCredentials",
    "NotBlessed",
    "NotClassified",
    "RequestTooLarge",
    "Resumable",
    "ServerBusy",
    "ServerUnavailable",
    "ServingError",
    "StorageDenied",
    "StorageError",
    "StorageUnavailable",
    "Transient",
    "Unsupported",
    "UsageError",
    "WrongAddress",
]
