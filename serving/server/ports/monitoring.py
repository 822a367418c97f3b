"""TensorFlow Serving's own metrics, and the Prometheus page in its format.

| Metric | Labels |
| --- | --- |
| `:tensorflow:serving:request_count` | model_name, status |
| `:tensorflow:serving:request_latency` (µs, successes only) | model_name, API, entrypoint |
| `:tensorflow:serving:runtime_latency` (µs) | model_name, API, runtime |
| `:tensorflow:serving:request_example_counts`, `…_count_total` | model |
| `:tensorflow:serving:batching_session:wrapped_run_count` | – |
| `:tensorflow:serving:model_warmup_latency` (µs) | model_path, status |
| `:tensorflow:serving:model_warmup_records_read` | model_path |
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from serving.server.rpc.status_error import Code, from_exception

_PREFIX = ":tensorflow:serving:"
_LATENCY_BUCKETS = [10 * 1.8**power for power in range(33)]
_COUNT_BUCKETS = [float(2**power) for power in range(15)]
MAX_MODELS, _MAX_NAME = 1000, 256
OTHER = "(other)"
CONTENT_TYPE = "text/plain"
DEFAULT_PATH = "/monitoring/prometheus/metrics"


class Metrics:
    """The metrics of one server."""

    def __init__(self, *, bounded: bool = True) -> None:
        """Empty metrics.

        Args:
          bounded: whether the models' names that clients make up share one label beyond many of them.
        """
        self._bounded = bounded
        self._registry = CollectorRegistry()
        self._labels: set[str] = set()
        self.request_count = self._counter("request_count", ["model_name", "status"])
        self.request_latency = self._histogram("request_latency", ["model_name", "API", "entrypoint"])
        self.runtime_latency = self._histogram("runtime_latency", ["model_name", "API", "runtime"])
        self.example_counts = self._histogram("request_example_counts", ["model"], _COUNT_BUCKETS)
        self.example_count_total = self._counter("request_example_count_total", ["model"])
        self.wrapped_run_count = self._counter("batching_session:wrapped_run_count", [])
        self.warmup_latency = self._histogram("model_warmup_latency", ["model_path", "status"])
        self.warmup_records = self._counter("model_warmup_records_read", ["model_path"])

    def _counter(self, name: str, labels: list[str]) -> Counter:
        return Counter(_PREFIX + name, name, labels, registry=self._registry)

    def _histogram(self, name: str, labels: list[str], buckets: list[float] | None = None) -> Histogram:
        return Histogram(_PREFIX + name, name, labels, registry=self._registry, buckets=buckets or _LATENCY_BUCKETS)

    @contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Counts the request that runs in the block, and its time if it succeeds."""
        model = self._label(model)
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.request_count.labels(model, from_exception(error).code.name).inc()
            raise
        self.request_count.labels(model, Code.OK.name).inc()
        self.request_latency.labels(model, api, entrypoint).observe((time.perf_counter() - started) * 1e6)

    def _label(self, model: str) -> str:
        """The model's name as a label. Clients may make names up: what is long, or beyond many, shares one label."""
        if self._bounded and model not in self._labels:
            if len(self._labels) >= MAX_MODELS or len(model) > _MAX_NAME:
                return OTHER
            self._labels.add(model)
        return model

    def examples(self, model: str, count: int) -> None:
        """Counts the examples of a Classify, Regress or MultiInference."""
        self.example_counts.labels(model).observe(count)
        self.example_count_total.labels(model).inc(count)

    def page(self) -> str:
        """All metrics as TensorFlow Serving prints them: no HELP lines, counters under their own names."""
        lines: list[str] = []
        for metric in self._registry.collect():
            lines.append(f"# TYPE {_name(metric)} {metric.type}")
            lines += [
                _line(sample, _name(metric) if metric.type == "counter" else sample.name) for sample in _samples(metric)
            ]
        return "\n".join(lines) + "\n"

    def counter_values(self) -> dict[str, float]:
        """Each counter's sum over its labels, by its name with slashes (`/tensorflow/serving/request_count`)."""
        values: dict[str, float] = {}
        for metric in self._registry.collect():
            if metric.type == "counter":
                values[_name(metric).replace(":", "/")] = sum(sample.value for sample in _samples(metric))
        return values


def _name(metric: Metric) -> str:
    """The name that it was made with: prometheus_client takes a `_total` off it, and adds one to each sample."""
    return metric.name + ("_total" if metric.documentation.endswith("_total") else "")


def _samples(metric: Metric) -> list[Sample]:
    return [sample for sample in metric.samples if not sample.name.endswith("_created")]


def _line(sample: Sample, name: str) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    value = int(sample.value) if float(sample.value).is_integer() else sample.value
    return f"{name}{{{labels}}} {value}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
