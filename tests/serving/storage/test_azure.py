"""How the account of az:// and its credentials are found, and what is said where they are not."""

import datetime

import pytest
from azure.storage.blob import ResourceTypes, Services, generate_account_sas

from serving.errors import StorageDenied, StorageUnavailable, UsageError
from serving.storage.storage_options import AzureOptions, StorageOptions
from serving.storage.stores import open_store


@pytest.fixture
def account(azure_server: str) -> dict[str, str]:
    """The parts of the emulator's connection string."""
    return dict(part.split("=", 1) for part in azure_server.split(";"))


def signature(account: dict[str, str], permission: str, days: int = 1) -> str:
    return generate_account_sas(
        account["AccountName"],
        account["AccountKey"],
        services=Services(blob=True),
        permission=permission,
        resource_types=ResourceTypes(service=True, container=True, object=True),
        expiry=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days),
    )


@pytest.mark.parametrize("name", ["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"])
@pytest.mark.parametrize("key", ["AZURE_STORAGE_KEY", "AZURE_STORAGE_ACCOUNT_KEY"])
def test_an_account_and_its_key(account: dict[str, str], name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, account["AccountName"])
    monkeypatch.setenv(key, account["AccountKey"])
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", account["BlobEndpoint"])
    assert not open_store("az://").exists("az://images/none")


def test_a_signature_and_what_it_does_not_allow(account: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", account["BlobEndpoint"])
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "?" + signature(account, "r"))
    store = open_store("az://")
    assert not store.exists("az://images/none")
    with pytest.raises(PermissionError):
        store.create("az://images/denied", b"x")


@pytest.mark.parametrize("given", ["account_url", "connection_string"])
def test_options_come_before_the_environment(
    account: dict[str, str], azure_server: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING", "AccountName=x;AccountKey=eA==;BlobEndpoint=http://127.0.0.1:1/x"
    )
    signed = f"{account['BlobEndpoint']}?{signature(account, 'r')}"
    options = AzureOptions(**{given: signed if given == "account_url" else azure_server})
    assert not open_store("az://", StorageOptions(azure=options)).exists("az://images/none")


def test_a_signature_that_ended_stops_the_run_and_is_not_shown(
    account: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", account["BlobEndpoint"])
    token = signature(account, "r", days=-1)
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", token)
    with pytest.raises(StorageDenied) as error:
        open_store("az://").read("az://images/x")
    assert "sig=" not in str(error.value)


def test_a_signature_is_not_shown_where_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_SERVICE_ENDPOINT", "http://127.0.0.1:1/x")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2026&sig=secret")
    with pytest.raises(StorageUnavailable) as error:
        open_store("az://").read("az://images/x")
    assert "secret" not in str(error.value)


def test_an_account_that_nobody_names_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT"):
        open_store("az://c/x")


def test_a_connection_string_that_is_none_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "secret")
    with pytest.raises(UsageError, match="az:// can't be set up") as error:
        open_store("az://c/x")
    assert "secret" not in str(error.value)
