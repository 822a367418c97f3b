"""How stores are reached: plain values, one class a store.

Where a value is None, the store's own library finds it: in environment variables, files of its command-line tool, or
the identity of the machine.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class S3Options:
    """Amazon S3, or a store that speaks its protocol."""

    endpoint_url: str | None = dataclasses.field(default=None, repr=False)
    """It may hold a password."""
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = dataclasses.field(default=None, repr=False)
    session_token: str | None = dataclasses.field(default=None, repr=False)
    api_version: str | None = None
    verify: bool | str | None = None
    """Are certificates checked? A path names a file of those to trust."""
    use_ssl: bool = True
    """What stands for an endpoint that is found without a URL."""


CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GcsOptions:
    """Google Cloud Storage."""

    project: str | None = None
    scopes: tuple[str, ...] = (CLOUD_PLATFORM,)
    """OAuth scopes of the credentials."""
    impersonate: tuple[str, ...] = ()
    """Service accounts: the last one is acted as, by way of those before it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with each request, such as entries for the audit log."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AzureOptions:
    """Azure Blob Storage."""

    connection_string: str | None = dataclasses.field(default=None, repr=False)
    account_url: str | None = dataclasses.field(default=None, repr=False)
    """https://ACCOUNT.blob.core.windows.net; it may hold a signature."""
    managed_identity_client_id: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StorageOptions:
    """All stores. It can be pickled for workers elsewhere; its repr shows no secret."""

    s3: S3Options = S3Options()
    gcs: GcsOptions = GcsOptions()
    azure: AzureOptions = AzureOptions()
