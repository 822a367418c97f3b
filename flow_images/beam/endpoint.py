"""The version that all requests of a pipeline ask for."""

import dataclasses

from serving.client.client_options import Endpoint
from serving.client.predict_client import PredictClient
from serving.network.retry import RetryPolicy


def pinned(endpoint: Endpoint, retry: RetryPolicy) -> Endpoint:
    """The endpoint with its version, or the highest that is available, which is waited for while it is loaded.

    Raises:
      ServingError: see `serving.client.predict_client.PredictClient.available_version`.
    """
    with PredictClient(endpoint, retry=retry) as client:
        return dataclasses.replace(endpoint, version=client.available_version())
