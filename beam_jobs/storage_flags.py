"""Beam's own flags that say how stores are reached, as our options: `-- --s3_endpoint_url=…` and its like."""

from collections.abc import Sequence
from typing import Any

from beam_jobs.beam_flags import parse_beam_flags
from serving.storage.storage_options import AzureOptions, GcsOptions, S3Options, StorageOptions

NOTE = {"-- BEAM FLAGS": "How buckets are reached, such as -- --s3_endpoint_url=…; see docs/storage.md."}
"""The help of a command that runs nothing on Beam says this of them."""


def storage_options(flags: Sequence[str]) -> StorageOptions:
    """The options for stores among Beam's flags; what is not given is left to each store's own library.

    Raises:
      UsageError: see `beam_jobs.beam_flags.parse_beam_flags`.
    """
    if not flags:
        return StorageOptions()  # Beam takes seconds to import
    given = parse_beam_flags(flags)
    from apache_beam.options import pipeline_options as beam

    return StorageOptions(
        s3=_s3(given.view_as(beam.S3Options)),
        gcs=_gcs(given.view_as(beam.GoogleCloudOptions)),
        azure=_azure(given.view_as(beam.AzureOptions)),
    )


def _s3(given: Any) -> S3Options:
    return S3Options(
        endpoint_url=given.s3_endpoint_url,
        region=given.s3_region_name,
        access_key_id=given.s3_access_key_id,
        secret_access_key=given.s3_secret_access_key,
        session_token=given.s3_session_token,
        api_version=given.s3_api_version,
        verify=_WORDS.get(str(given.s3_verify).lower(), given.s3_verify),
        use_ssl=not given.s3_disable_ssl,
    )


_WORDS = {"true": True, "1": True, "false": False, "0": False}
"""What --s3_verify may be besides the path of a file with certificates."""


def _gcs(given: Any) -> GcsOptions:
    accounts = given.impersonate_service_account
    return GcsOptions(
        project=given.project,
        scopes=tuple(given.gcp_oauth_scopes),
        impersonate=tuple(accounts.split(",")) if accounts else (),
        headers=tuple((given.gcs_custom_audit_entries or {}).items()),
    )


def _azure(given: Any) -> AzureOptions:
    return AzureOptions(
        connection_string=given.azure_connection_string,
        account_url=given.blob_service_endpoint,
        managed_identity_client_id=given.azure_managed_identity_client_id,
    )
