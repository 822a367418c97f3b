"""Beam's own flags for stores reach ours."""

import pickle

from beam_jobs.storage_flags import storage_options
from serving.storage.storage_options import AzureOptions, GcsOptions, S3Options, StorageOptions


def test_without_flags_the_environment_says() -> None:
    assert storage_options([]) == StorageOptions()


def test_flags_of_s3() -> None:
    given = storage_options(
        [
            "--s3_endpoint_url=http://h:1",
            "--s3_region_name=eu",
            "--s3_access_key_id=id",
            "--s3_secret_access_key=secret",
            "--s3_session_token=token",
            "--s3_api_version=2006-03-01",
            "--s3_verify=false",
            "--s3_disable_ssl",
        ]
    )
    assert given.s3 == S3Options(
        endpoint_url="http://h:1",
        region="eu",
        access_key_id="id",
        secret_access_key="secret",
        session_token="token",
        api_version="2006-03-01",
        verify=False,
        use_ssl=False,
    )
    assert storage_options(["--s3_verify=/ca.pem"]).s3.verify == "/ca.pem"


def test_flags_of_google() -> None:
    given = storage_options(
        [
            "--project=p",
            "--impersonate_service_account=a@x,b@x",
            "--gcp_oauth_scopes=https://scope",
            '--gcs_custom_audit_entries={"user": "me"}',
        ]
    )
    assert given.gcs.project == "p"
    assert given.gcs.impersonate == ("a@x", "b@x")
    assert "https://scope" in given.gcs.scopes
    assert ("x-goog-custom-audit-user", "me") in given.gcs.headers


def test_flags_of_azure() -> None:
    given = storage_options(["--blob_service_endpoint=https://a", "--azure_managed_identity_client_id=id"])
    assert given.azure == AzureOptions(account_url="https://a", managed_identity_client_id="id")
    assert storage_options(["--azure_connection_string=x"]).azure == AzureOptions(connection_string="x")


def test_options_travel_to_workers_and_show_no_secret() -> None:
    options = StorageOptions(
        s3=S3Options(secret_access_key="hidden", session_token="hidden"),
        gcs=GcsOptions(project="p"),
        azure=AzureOptions(connection_string="hidden", account_url="https://a?sig=hidden"),
    )
    assert pickle.loads(pickle.dumps(options)) == options
    assert "hidden" not in repr(options)
