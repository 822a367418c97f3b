"""Folders of s3:// as the pods need them: what is in one, and copies of it in either direction."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from serving.errors import FlowImagesError, StorageUnavailable, UsageError

_T = TypeVar("_T")

COMPLETE = "saved_model.pb"
"""The file of a model version that is published last: without it, the version is still being written."""
_AT_ONCE = 16
"""Copies that run together: many small files wait for the network, not for a CPU."""
_NEVER = {
    "NoSuchBucket": "there is no such bucket",
    "InvalidBucketName": "a bucket can't have this name",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION",
    "AccessDenied": "the pod has no rights to it",
    "AllAccessDisabled": "all access to it is switched off",
    "AccountProblem": "its account has a problem",
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
}
"""Codes of answers that stay the same until somebody changes something; any other may pass."""


class BucketUnavailable(StorageUnavailable):
    """The bucket, or what gives out the credentials for it, does not answer as it should for now."""


@contextlib.contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Turns the errors of AWS's libraries into ours.

    Raises:
      UsageError: it can't become right by trying again.
      BucketUnavailable: it may.
    """
    try:
        from boto3.exceptions import Boto3Error
        from botocore import exceptions
    except ModuleNotFoundError as error:
        raise UsageError(f"{url}: this image has no S3 client; build it with the extra s3") from error
    hopeless = (
        exceptions.ParamValidationError,
        exceptions.ProfileNotFound,
        exceptions.ConfigParseError,
        exceptions.PartialCredentialsError,
        exceptions.InvalidRegionError,
        ValueError,  # An endpoint that is no address.
    )
    try:
        yield
    except hopeless as error:
        raise UsageError(f"{url}: {error}") from error
    except exceptions.ClientError as error:
        raise _answered(url, error) from error
    except (exceptions.BotoCoreError, Boto3Error) as error:
        # An upload's own error hides the answer that it is about.
        cause = error.__cause__ or error.__context__
        if isinstance(cause, exceptions.ClientError):
            raise _answered(url, cause) from error
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise UsageError(f"{url}: the store's certificate is not trusted ({error})") from error
        raise BucketUnavailable(f"{url}: {error}") from error


def client() -> Any:
    """An S3 client, set up by AWS's environment variables, files or the pod's identity."""
    import boto3
    from botocore.config import Config

    retries: Any = {"mode": "standard", "max_attempts": 5}
    config = Config(max_pool_connections=_AT_ONCE, connect_timeout=10, read_timeout=60, retries=retries)
    return boto3.client("s3", config=config)


def split(url: str) -> tuple[str, str]:
    """(bucket, prefix without a slash at its ends) of s3://BUCKET/PREFIX."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def keys(s3: Any, url: str) -> dict[str, str]:
    """Path below the folder -> key, of everything in it."""
    bucket, prefix = split(url)
    start = f"{prefix}/" if prefix else ""
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
        if "IsTruncated" not in page:  # An answer that was cut off after its headers looks like an empty folder.
            raise BucketUnavailable(f"{url}: the listing was cut off")
        for entry in page.get("Contents", []):
            if not entry["Key"].endswith("/"):
                found[entry["Key"].removeprefix(start)] = entry["Key"]
    return found


def download(s3: Any, bucket: str, files: Mapping[str, str], folder: Path) -> None:
    """Copies path -> key into a folder; a path that leads out of it is refused."""
    places = {}
    for path, key in files.items():
        places[key] = (folder / path).resolve()
        if not places[key].is_relative_to(folder.resolve()):
            raise FlowImagesError(f"s3://{bucket}/{key} would be written outside of {folder}")
        places[key].parent.mkdir(parents=True, exist_ok=True)
    together(lambda key: s3.download_file(bucket, key, str(places[key])), places)


def upload(s3: Any, folder: Path, url: str) -> None:
    """Copies a model version to s3://, and what makes it complete last."""
    bucket, prefix = split(url)

    def send(path: Path) -> None:
        s3.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")

    files = [path for path in folder.rglob("*") if path.is_file()]
    last = folder / COMPLETE
    together(send, (path for path in files if path != last))
    send(last)


def together(do: Callable[[_T], object], items: Iterable[_T]) -> None:
    """Does it for all items, several at once; raises the first error."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(do, items))


def _answered(url: str, error: Any) -> FlowImagesError:
    """Our error for an answer of S3 that is an error. One to HEAD has no body, so its code is the status."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    if code in _NEVER:
        return UsageError(f"{url}: {_NEVER[code]} ({error})")
    if code == "403":
        return UsageError(f"{url}: {_NEVER['AccessDenied']} ({error})")
    return BucketUnavailable(f"{url}: {error}")
