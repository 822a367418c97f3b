"""s3://BUCKET/KEY, on boto3. What the options leave open, boto3 looks for: AWS_… variables, ~/.aws, the machine's role.

Create-if-absent is S3's conditional put, `If-None-Match: *`.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import IO, Any

import boto3
import botocore.config
import botocore.exceptions
import urllib3
from typing_extensions import override

from serving.errors import FileError, NoCredentials, StorageDenied, StorageUnavailable, UsageError
from serving.storage.base import Fetched, FileInfo, Stamp, Storage, spooled
from serving.storage.local_file import TooLarge
from serving.storage.pace import receive, retry_after_s
from serving.storage.storage_options import S3Options

_CONNECT_S = 4.0
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName"}
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_DENIED = {"403", "AccessDenied"}
# These are not an image's fault either, and the run is over.
_REFUSED = {"401", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "RequestTimeTooSkewed"}
# Credentials that ended are not an image's fault; they may be renewed, by boto3 itself or for the next run.
# 400 is what they look like in the answer to a HEAD, which has no body.
_PASSING = {"SlowDown", "RequestTimeout", "Throttling", "ExpiredToken", "RequestExpired", "400"}

_OTHER_REGION = "the bucket is in another region: set AWS_DEFAULT_REGION"
_HINTS = {
    "PermanentRedirect": _OTHER_REGION,
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "IllegalLocationConstraintException": _OTHER_REGION,
    "AllAccessDisabled": "all access to the bucket is switched off",
    "AccountProblem": "the account has a problem",
}


class S3(Storage):
    """Amazon S3, or any store that speaks its protocol. Safe to use from several threads."""

    def __init__(self, options: S3Options, wait_s: float) -> None:
        """See `serving.storage.stores.open_store`."""
        self._wait_s = wait_s
        config = botocore.config.Config(
            max_pool_connections=64,  # as many as a job reads at once
            connect_timeout=min(wait_s, _CONNECT_S),
            read_timeout=wait_s,
            retries={"total_max_attempts": 1},  # retries are made, and told to the user, by RetryingStorage
        )
        try:
            self._client = boto3.session.Session().client(
                "s3",
                aws_access_key_id=options.access_key_id,
                aws_secret_access_key=options.secret_access_key,
                aws_session_token=options.session_token,
                endpoint_url=options.endpoint_url,
                region_name=options.region or _region(),
                api_version=options.api_version,
                use_ssl=options.use_ssl,
                verify=options.verify,
                config=config,
            )
        except (ValueError, botocore.exceptions.BotoCoreError) as error:
            raise UsageError(
                f"s3:// can't be set up: {error}; see AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and AWS's other settings"
            ) from error

    @override
    def fetch(self, path: str, limit: int | None = None) -> Fetched:
        with _plain_errors(path):
            answer = self._client.get_object(**_address(path))
            if limit is not None and answer["ContentLength"] > limit:
                answer["Body"].close()
                raise TooLarge(answer["ContentLength"])
            return Fetched(self._receive(path, answer), _stamp(answer))

    @override
    def stamp(self, path: str) -> Stamp:
        with _plain_errors(path):
            return _stamp(self._client.head_object(**_address(path)))

    @override
    def read_range(self, path: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with _plain_errors(path):
            answer = self._client.get_object(**_address(path), Range=f"bytes={start}-{end - 1}")
            return self._receive(path, answer)

    def _receive(self, path: str, answer: Mapping[str, Any]) -> bytes:
        with answer["Body"] as body:
            data = receive(body, self._wait_s)
        if len(data) != answer["ContentLength"]:  # boto3 has its connections leave this check to who reads
            raise StorageUnavailable(f"{path}: cut off after {len(data):,} of {answer['ContentLength']:,} bytes")
        return data

    @override
    def create(self, path: str, data: bytes) -> bool:
        if self.exists(path):  # also for S3-compatible stores that ignore the condition
            return False
        try:
            with _plain_errors(path):
                self._client.put_object(**_address(path), Body=data, IfNoneMatch="*")
        except FileExistsError:
            return False
        return True

    @override
    @contextlib.contextmanager
    def replacing(self, path: str) -> Iterator[IO[bytes]]:
        with _plain_errors(path), spooled(lambda file, _: self._client.upload_fileobj(file, **_address(path))) as file:
            yield file

    @override
    def exists(self, path: str) -> bool:
        try:
            with _plain_errors(path):
                self._client.head_object(**_address(path))
        except FileNotFoundError:
            return False
        return True

    @override
    def walk(self, folder: str, after: str | None = None) -> Iterator[FileInfo]:
        where = _address(folder.rstrip("/") + "/")
        bucket, prefix = where["Bucket"], where["Key"]
        with _plain_errors(folder):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix, **({"StartAfter": _address(after)["Key"]} if after else {})
            )
            for page in pages:
                if "IsTruncated" not in page:  # an answer cut off after its headers, for boto3 an empty one
                    raise StorageUnavailable(f"{folder}: the listing was cut off")
                for item in page.get("Contents", ()):
                    if not item["Key"].endswith("/"):
                        yield FileInfo(f"s3://{bucket}/{item['Key']}", item["Size"])

    @override
    def delete(self, path: str) -> None:
        with _plain_errors(path):
            self._client.delete_object(**_address(path))


def _stamp(answer: Mapping[str, Any]) -> Stamp:
    return {"size": str(answer["ContentLength"]), "etag": answer.get("ETag", "")}


def _region() -> str | None:
    """The region of the environment: boto3 looks only for its own variable, TensorFlow Serving for the other SDKs'."""
    return os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION")


def _address(path: str) -> dict[str, Any]:
    bucket, _, key = path.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


@contextlib.contextmanager
def _plain_errors(path: str) -> Iterator[None]:
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        about = error.response.get("ResponseMetadata", {})
        status = about.get("HTTPStatusCode", 0)
        if code in _NO_BUCKET:
            raise FileNotFoundError(f"{path}: there is no bucket {_address(path)['Bucket']!r}") from error
        if code in _ABSENT:
            raise FileNotFoundError(path) from error
        if code in _TAKEN:
            raise FileExistsError(path) from error
        if code in _DENIED:
            raise PermissionError(f"{path}: {error}") from error
        if code in _REFUSED:
            raise StorageDenied(f"{path}: {error}") from error
        if status >= 500 or status == 429 or code in _PASSING:
            raise StorageUnavailable(f"{path}: {error}", retry_after_s(about.get("HTTPHeaders"))) from error
        raise FileError(f"{path}: {_HINTS[code]} ({error})" if code in _HINTS else f"{path}: {error}") from error
    except botocore.exceptions.NoCredentialsError as error:
        raise NoCredentials(f"{path}: {error}") from error
    except botocore.exceptions.PartialCredentialsError as error:
        raise StorageDenied(f"{path}: {error}") from error
    except botocore.exceptions.SSLError as error:
        refused = "CERTIFICATE_VERIFY_FAILED" in str(error)  # and not a handshake that was cut off
        raise (StorageDenied if refused else StorageUnavailable)(f"{path}: {error}") from error
    except _AWAY as error:
        raise StorageUnavailable(f"{path}: {error}") from error
    except botocore.exceptions.ParamValidationError as error:
        raise FileNotFoundError(f"{path}: {error}") from error
    except botocore.exceptions.BotoCoreError as error:
        raise FileError(f"{path}: {error}") from error


_AWAY = (
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ConnectionError,
    # A body that breaks off or trickles.
    urllib3.exceptions.HTTPError,
    TimeoutError,
    # What gives out a pod's or a machine's credentials does not answer.
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.MetadataRetrievalError,
)
