"""What the embedded server costs, as ratios measured in one run on one machine.

    python benchmarks/server.py [--seconds 20] [--rounds 3] [--saved-model DIR]

The floor is the SavedModel's signature, called in a loop in one process, with batches of 32. Server and floor take
turns, so that a machine whose speed drifts treats both alike; the clients' CPU is on the server's side of the ratio.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from serving.server import ServerProcess

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

BATCH = 32
SINGLE_CLIENTS = 64
BATCHING = f"""
max_batch_size {{ value: {BATCH} }}
batch_timeout_micros {{ value: 20000 }}
max_enqueued_batches {{ value: 100 }}
num_batch_threads {{ value: 2 }}
"""


def export(path: str) -> None:
    """Writes a MobileNetV2 1.0 at 224 with random weights, and a signature that costs nothing."""
    import tensorflow as tf
    import tf_keras

    model = tf_keras.applications.MobileNetV2(weights=None)

    @tf.function(input_signature=[tf.TensorSpec([None, 224, 224, 3], tf.float32, name="images")])
    def classify(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": model(images, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def tiny(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + 1.0}

    tf.saved_model.save(model, path, signatures={"serving_default": classify, "tiny": tiny})


def floor(saved_model: str, work: Any, results: Any) -> None:
    """A process that calls the signature in a loop for as many seconds as `work` says: images a second, CPU each."""
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(saved_model)
    call = loaded.signatures["serving_default"]
    images = tf.constant(np.random.default_rng(0).random((BATCH, 224, 224, 3), np.float32))
    call(images=images)
    results.put(None)
    for seconds in iter(work.get, None):
        count, started, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < seconds:
            call(images=images)["probabilities"].numpy()
            count += BATCH
        results.put((count / (time.perf_counter() - started), (time.process_time() - cpu) / count))


def request(signature: str, alias: str, shape: tuple[int, ...]) -> bytes:
    """A serialised PredictRequest with random float32 in `tensor_content`."""
    import numpy as np
    from tensorflow.core.framework import types_pb2
    from tensorflow_serving.apis import predict_pb2

    message = predict_pb2.PredictRequest()
    message.model_spec.name = "m"
    message.model_spec.signature_name = signature
    message.inputs[alias].dtype = types_pb2.DT_FLOAT
    for size in shape:
        message.inputs[alias].tensor_shape.dim.add(size=size)
    message.inputs[alias].tensor_content = np.random.default_rng(0).random(shape, np.float32).tobytes()
    return message.SerializeToString()


def caller(address: str) -> Callable[[bytes], bytes]:
    """Predict on a channel of its own, on serialised messages."""
    import grpc

    limits = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(address, options=limits)
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    return lambda data: bytes(call(data, wait_for_ready=True))


def throughput(server: ServerProcess, data: bytes, clients: int, rows: int, seconds: float) -> tuple[float, float]:
    """With so many clients, each of which waits for its answer before it asks again.

    Returns:
      Rows a second, and CPU seconds a row, server's and clients' together.
    """
    counts = [0] * clients
    stop = threading.Event()
    child = psutil.Process(server.pid)

    def cpu() -> float:
        return time.process_time() + sum(child.cpu_times()[:2])

    def ask(client: int) -> None:
        call = caller(server.address)
        while not stop.is_set():
            call(data)
            counts[client] += rows

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    while not all(counts):  # the first calls build what is built once
        time.sleep(0.1)
    rows_before, cpu_before, started = sum(counts), cpu(), time.perf_counter()
    time.sleep(seconds)
    done, used = sum(counts) - rows_before, cpu() - cpu_before
    rate = done / (time.perf_counter() - started)
    stop.set()
    for thread in threads:
        thread.join()
    return rate, used / done


@contextmanager
def floor_process(saved_model: str) -> Iterator[Callable[[float], tuple[float, float]]]:
    """Runs `floor` in a process of its own; gives a function from seconds to its rate and its CPU seconds a row."""
    spawn = multiprocessing.get_context("spawn")
    work, results = spawn.Queue(), spawn.Queue()
    process = spawn.Process(target=floor, args=(saved_model, work, results), daemon=True)
    process.start()
    results.get()

    def measure(seconds: float) -> tuple[float, float]:
        work.put(seconds)
        rate, cpu = results.get()
        return rate, cpu

    yield measure
    work.put(None)
    process.join()


def main() -> None:
    """Prints the rates, by turns, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--saved-model", help="a version folder; default: MobileNetV2 with random weights")
    parser.add_argument("--clients", type=int, default=2, help="that send batches of 32")
    arguments = parser.parse_args()
    from serving.server import ServerProcess

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "m"
        if arguments.saved_model:
            base.mkdir()
            (base / "1").symlink_to(Path(arguments.saved_model).resolve())
        else:
            subprocess.run(
                [sys.executable, "-c", f"from server import export; export({str(base / '1')!r})"],
                cwd=Path(__file__).parent,
                check=True,
                stderr=subprocess.DEVNULL,
            )
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, stderr=subprocess.DEVNULL)
        imported = time.perf_counter() - started
        parameters = Path(folder) / "batching.config"
        parameters.write_text(BATCHING)
        batching = ["--enable_batching", f"--batching_parameters_file={parameters}"]
        full = request("serving_default", "images", (BATCH, 224, 224, 3))
        single = request("serving_default", "images", (1, 224, 224, 3))
        started = time.perf_counter()
        with ServerProcess(base, model_name="m") as plain:
            ready = time.perf_counter() - started
            print(f"start to ready {ready:.1f} s; `import tensorflow` alone {imported:.1f} s: {ready / imported:.2f} x")
            with (
                ServerProcess(base, model_name="m", extra_flags=batching) as batched,
                floor_process(str(base / "1")) as alone,
            ):
                measured: dict[str, list[tuple[float, float]]] = {}
                seconds = arguments.seconds
                measures = {
                    "floor": lambda: alone(seconds),
                    "32": lambda: throughput(plain, full, arguments.clients, BATCH, seconds),
                    "32 batching": lambda: throughput(batched, full, arguments.clients, BATCH, seconds),
                    "1 batching": lambda: throughput(batched, single, SINGLE_CLIENTS, 1, seconds),
                }
                for _ in range(arguments.rounds):
                    for name, measure in measures.items():
                        rate, cpu = measure()
                        measured.setdefault(name, []).append((rate, cpu))
                        print(f"  {name}: {rate:.1f} images/s, {cpu * 1000:.1f} CPU ms each", flush=True)
                report("batches of 32, server / floor", measured["32"], measured["floor"])
                report("batches of 32, batching on, server / floor", measured["32 batching"], measured["floor"])
                report(
                    f"{SINGLE_CLIENTS} clients with one image, batching on / batches of 32",
                    measured["1 batching"],
                    measured["32"],
                )
            tiny_call(plain.address)


def report(title: str, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    """Prints the median ratio of the rates, and that of the images a CPU second, which other loads disturb less."""
    rates = [a[0] / b[0] for a, b in zip(ours, theirs, strict=True)]
    cpus = [b[1] / a[1] for a, b in zip(ours, theirs, strict=True)]
    print(f"{title}: {statistics.median(rates):.3f} ({' '.join(f'{ratio:.2f}' for ratio in rates)})", end="; ")
    print(f"per CPU second {statistics.median(cpus):.3f} ({' '.join(f'{ratio:.2f}' for ratio in cpus)})")


def tiny_call(address: str) -> None:
    """The time of a call that computes nothing, one after the other."""
    call, data = caller(address), request("tiny", "x", (1,))
    for _ in range(300):
        call(data)
    times = []
    for _ in range(2000):
        started = time.perf_counter()
        call(data)
        times.append(time.perf_counter() - started)
    print(f"a call that computes nothing: median {statistics.median(times) * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
