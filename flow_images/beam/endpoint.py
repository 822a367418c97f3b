"""The endpoint of a pipeline: plain values that can be pickled, and the version that all its requests ask for."""

import dataclasses

from serving.client import PredictClient
from serving.options import Endpoint, RetryPolicy, TlsOptions


def make_endpoint(server: str, model_name: str, version: int | None, tls: TlsOptions | bool | None) -> Endpoint:
    """The endpoint of a transform's arguments.

    Raises:
      UsageError: an address of no known form, an empty name, or files of TLS options that can't be used.
    """
    if tls is True:
        tls = TlsOptions()
    return Endpoint(address=server, model_name=model_name, version=version, tls=tls or None)


def pinned(endpoint: Endpoint, retry: RetryPolicy) -> Endpoint:
    """The endpoint with its version, or the highest that is available, which is waited for while it is loaded.

    Raises:
      ServingError: see `serving.client.PredictClient.available_version`.
    """
    with PredictClient(endpoint, retry=retry) as client:
        return dataclasses.replace(endpoint, version=client.available_version())
