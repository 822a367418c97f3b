"""How stores are reached, as plain values."""

from serving.storage.storage_options import AzureOptions, S3Options, StorageOptions


def test_no_secret_is_shown() -> None:
    options = StorageOptions(
        s3=S3Options(endpoint_url="https://user:hunter2@host", secret_access_key="hunter2", session_token="hunter2"),
        azure=AzureOptions(connection_string="AccountKey=hunter2", account_url="https://a?sig=hunter2"),
    )
    assert "hunter2" not in repr(options)
