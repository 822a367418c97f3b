"""Which versions are served: policies, roll-over, failures, labels, reloads."""

import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from serving.server import EmbeddedServer, ServerOptions
from serving.server.rpc.status_error import Code, StatusError
from tests.serving.server.client import Client, refused
from tests.serving.server.conftest import Gate, Serve, eventually
from tests.serving.server.saved_models import write_broken

X = np.zeros([1, 2], np.float32)
Publish = Callable[[int], None]


def answering(client: Client) -> float:
    """The version that answers; the model adds it to its input."""
    return float(client.predict(x=X)["y"][0, 0])


def test_a_new_version_takes_over_and_the_old_one_is_unloaded(base: Path, publish: Publish, serve: Serve) -> None:
    publish(1)
    client = serve(base)
    publish(2)
    eventually(lambda: answering(client) == 2)
    eventually(lambda: client.status() == [(2, "AVAILABLE"), (1, "END")])
    request = client.request(x=X)
    request.model_spec.version.value = 1
    with refused("NOT_FOUND", "Servable not found for request: Specific(m, 1)"):
        client.send(request)


def test_no_request_fails_during_roll_over(base: Path, publish: Publish, serve: Serve) -> None:
    publish(1)
    client = serve(base)
    seen: set[float] = set()
    stop = threading.Event()
    failures: list[Exception] = []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.add(answering(client))
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: seen == {1.0})
    publish(2)
    eventually(lambda: 2.0 in seen)
    publish(3)
    eventually(lambda: 3.0 in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_request_in_flight_finishes_on_the_old_version(
    base: Path, publish: Publish, serve: Serve, gate: Gate
) -> None:
    publish(1)
    client = serve(base)
    slow = gate.send(client)
    gate.wait_until_reached()
    publish(2)
    eventually(lambda: client.status() == [(2, "AVAILABLE"), (1, "UNLOADING")])
    assert answering(client) == 2
    gate.open()
    assert slow.result().model_spec.version.value == 1
    eventually(lambda: client.status() == [(2, "AVAILABLE"), (1, "END")])


def test_a_version_that_fails_to_load_leaves_the_old_one_serving(base: Path, publish: Publish, serve: Serve) -> None:
    publish(1)
    client = serve(base, max_num_load_retries=0)
    write_broken(base, 2)
    eventually(lambda: (2, "END") in client.status())
    assert answering(client) == 1
    assert client.status() == [(2, "END"), (1, "AVAILABLE")]


@pytest.mark.parametrize(
    ("kept", "code", "message"),
    [
        (lambda whole: b"", "OUT_OF_RANGE", "Read less bytes than requested"),
        (lambda whole: whole[:-1], "OUT_OF_RANGE", "Read less bytes than requested"),
        (lambda whole: whole[: len(whole) // 2], "OUT_OF_RANGE", "Read less bytes than requested"),
        (lambda whole: b"junk", "OUT_OF_RANGE", "Read less bytes than requested"),
        (lambda whole: whole + b"junk", "OUT_OF_RANGE", "Read less bytes than requested"),
        (lambda whole: b"<html>" + whole, "DATA_LOSS", "Can't parse {path}/saved_model.pb as binary proto"),
    ],
    ids=["empty", "cut by a byte", "cut", "a few bytes", "more at the end", "something else"],
)
def test_the_status_says_what_is_wrong_with_a_saved_model(
    written: Path, base: Path, publish: Publish, serve: Serve, kept: Callable[[bytes], bytes], code: str, message: str
) -> None:
    publish(1)
    client = serve(base, max_num_load_retries=0)
    aside, path = base / "aside", base / "2"
    aside.mkdir()
    (aside / "saved_model.pb").write_bytes(kept((written / "m" / "1" / "saved_model.pb").read_bytes()))
    aside.rename(path)
    eventually(lambda: client.status()[0] == (2, "END"))
    response = client.models.GetModelStatus(
        get_model_status_pb2.GetModelStatusRequest(model_spec=client.spec(version=2))
    )
    status = response.model_version_status[0].status
    assert (status.error_code, status.error_message) == (Code[code], message.format(path=path))


def test_a_half_copied_version_is_tried_again(base: Path, publish: Publish, serve: Serve) -> None:
    publish(1)
    client = serve(base, load_retry_interval_micros=200_000)
    (base / "2").mkdir()
    eventually(lambda: (2, "LOADING") in client.status())
    (base / "2").rmdir()
    publish(2)
    eventually(lambda: answering(client) == 2)


def test_a_failed_version_is_tried_anew_after_an_absence(
    base: Path, tmp_path: Path, publish: Publish, serve: Serve
) -> None:
    publish(1)
    file = tmp_path / "models.config"
    file.write_text(config(base, "model_version_policy { all {} }"))
    client = serve(model_config_file=str(file), max_num_load_retries=0)
    (base / "2").mkdir()
    eventually(lambda: (2, "END") in client.status())
    (base / "2").rmdir()
    publish(3)
    eventually(lambda: (3, "AVAILABLE") in client.status())  # so version 2 has been missed
    publish(2)
    eventually(lambda: (2, "AVAILABLE") in client.status())


def test_deleting_all_versions_unloads_but_deleting_the_base_path_does_not(
    base: Path, publish: Publish, serve: Serve
) -> None:
    publish(1)
    client = serve(base)
    moved = base.with_name("moved")
    base.rename(moved)
    publish_later = threading.Event()
    publish_later.wait(1.5)  # a poll or two
    assert answering(client) == 1
    moved.rename(base)
    (base / "1").unlink()
    eventually(lambda: client.status() == [(1, "END")])
    with refused("NOT_FOUND", "Servable not found for request: Latest(m)"):
        answering(client)


def test_rolling_back_by_deleting_the_new_version(base: Path, publish: Publish, serve: Serve) -> None:
    publish(1)
    publish(2)
    client = serve(base)
    assert answering(client) == 2
    (base / "2").unlink()
    eventually(lambda: answering(client) == 1)


def test_names_that_are_no_versions_are_ignored(base: Path, written: Path, serve: Serve) -> None:
    (base / "00000001").symlink_to(written / "m" / "1")
    for name in ("tmp-7", "7.5", "v8", "temp", "-3"):
        (base / name).symlink_to(written / "m" / "2")
    client = serve(base)
    assert client.status() == [(1, "AVAILABLE")]


def config(base: Path, policy: str = "", labels: str = "", name: str = "m") -> str:
    return (
        f'model_config_list {{ config {{ name: "{name}" base_path: "{base}" model_platform: "tensorflow" '
        f"{policy} {labels} }} }}"
    )


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [3, 2]),
        ("model_version_policy { latest { num_versions: 0 } }", [3]),
        ("model_version_policy { all {} }", [3, 2, 1]),
        ("model_version_policy { specific { versions: 1 versions: 2 versions: 9 } }", [2, 1]),
    ],
)
def test_policies(written: Path, tmp_path: Path, serve: Serve, policy: str, served: list[int]) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(written / "m", policy))
    client = serve(model_config_file=str(file))
    eventually(lambda: client.status() == [(version, "AVAILABLE") for version in served])
    assert answering(client) == served[0]


def test_the_first_load_that_fails_fails_the_start(base: Path) -> None:
    write_broken(base, 1)
    with pytest.raises(StatusError, match=r"1 servable\(s\) did not become available: {{{name: m version: 1} due to"):
        EmbeddedServer(base, model_name="m").start()


@pytest.mark.parametrize("kind", ["missing", "empty", "a version itself"])
def test_a_base_path_without_versions_is_a_clear_error(base: Path, written: Path, kind: str) -> None:
    path = {"missing": base / "x", "empty": base, "a version itself": written / "m" / "1"}[kind]
    expected = {
        "missing": "no such folder",
        "empty": "no version folder",
        "a version itself": "give the folder that it is in",
    }
    with pytest.raises(StatusError, match=expected[kind]):
        EmbeddedServer(path).start()


def test_without_fail_fast_the_server_waits_for_the_folder(base: Path, publish: Publish) -> None:
    options = ServerOptions(port=-1, host="127.0.0.1", model_name="m", model_base_path=str(base / "later"))
    server = EmbeddedServer(options=options)
    starter = threading.Thread(target=server.start, kwargs={"fail_fast": False})
    starter.start()
    publish(1)
    base.joinpath("later").mkdir()
    base.joinpath("1").rename(base / "later" / "1")
    starter.join()
    assert answering(Client(server.address)) == 1
    server.stop()


def reload(client: Client, *configs: tuple[str, Path, dict[str, int]], policy: str = "all") -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for name, base_path, labels in configs:
        added = request.config.model_config_list.config.add(
            name=name, base_path=str(base_path), model_platform="tensorflow", version_labels=labels
        )
        getattr(added.model_version_policy, policy).SetInParent()
    client.models.HandleReloadConfigRequest(request, timeout=60)


def labelled(client: Client, label: str) -> float:
    request = client.request(x=X)
    request.model_spec.version_label = label
    return float(client.send(request).outputs["y"].float_val[0])


def test_reload_replaces_the_models(written: Path, serve: Serve) -> None:
    client = serve(written / "m")
    other = Client(client.address, "other")
    reload(client, ("m", written / "m", {}), ("other", written / "m", {}))
    assert answering(other) == 3  # the call returned once the new model was available
    reload(client, ("other", written / "m", {}))
    eventually(lambda: {state for _, state in client.status()} == {"END"})
    assert answering(other) == 3


def test_reload_of_a_model_that_fails_to_load(written: Path, base: Path, serve: Serve) -> None:
    client = serve(written / "m", max_num_load_retries=0)
    write_broken(base, 1)
    with refused("UNKNOWN", "1 model(s) did not become available: {{{name: bad version: 1} due to error: "):
        reload(client, ("m", written / "m", {}), ("bad", base, {}))


def test_reload_gives_a_model_that_failed_another_chance(written: Path, base: Path, serve: Serve) -> None:
    client = serve(written / "m", max_num_load_retries=0)
    other = Client(client.address, "other")
    broken = write_broken(base, 1)
    with refused("UNKNOWN"):
        reload(client, ("m", written / "m", {}), ("other", base, {}))
    reload(client, ("m", written / "m", {}))
    broken.joinpath("saved_model.pb").unlink()
    broken.rmdir()
    broken.symlink_to(written / "m" / "1")
    reload(client, ("m", written / "m", {}), ("other", base, {}))
    assert answering(other) == 1


def test_labels_are_assigned_moved_and_removed(written: Path, serve: Serve) -> None:
    client = serve(written / "m")
    reload(client, ("m", written / "m", {}))
    eventually(lambda: len([1 for _, state in client.status() if state == "AVAILABLE"]) == 3)
    reload(client, ("m", written / "m", {"stable": 1, "canary": 3}))
    assert (labelled(client, "stable"), labelled(client, "canary")) == (1, 3)
    reload(client, ("m", written / "m", {"stable": 2}))
    assert labelled(client, "stable") == 2
    with refused("INVALID_ARGUMENT", "Unrecognized servable version label: canary"):
        labelled(client, "canary")


def test_a_label_needs_a_version_that_is_available(written: Path, serve: Serve) -> None:
    client = serve(written / "m")
    with refused(
        "FAILED_PRECONDITION",
        "Request to assign label to version 1 of model m, which is not currently available for inference",
        exact=True,
    ):
        reload(client, ("m", written / "m", {"stable": 1}), policy="latest")


def test_labels_for_versions_that_are_not_loaded(written: Path, serve: Serve) -> None:
    client = serve(written / "m", allow_version_labels_for_unavailable_models=True)
    reload(client, ("m", written / "m", {"stable": 1}), policy="latest")
    with refused("NOT_FOUND", "Servable not found for request: Specific(m, 1)"):
        labelled(client, "stable")
    with refused("FAILED_PRECONDITION", "Request to assign label to version 2 of model m"):
        reload(client, ("m", written / "m", {"stable": 2}), policy="latest")


def test_labels_in_the_start_up_config_fail_the_start(written: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(written / "m", labels='version_labels { key: "stable" value: 3 }'))
    with pytest.raises(StatusError, match="Request to assign label to version 3 of model m"):
        EmbeddedServer(model_config_file=str(file)).start()
    allowed = EmbeddedServer(model_config_file=str(file), allow_version_labels_for_unavailable_models=True)
    with allowed as server:
        assert labelled(Client(server.address), "stable") == 3


def test_reload_counts_metrics(written: Path, serve: Serve) -> None:
    client = serve(written / "m")
    request = model_management_pb2.ReloadConfigRequest(metric_names=["/tensorflow/serving/request_count"])
    request.config.model_config_list.config.add(name="m", base_path=str(written / "m"), model_platform="tensorflow")
    response = client.models.HandleReloadConfigRequest(request)
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [
        ("/tensorflow/serving/request_count", 0)
    ]


def test_the_config_file_is_read_again(written: Path, tmp_path: Path, serve: Serve) -> None:
    file = tmp_path / "models.config"
    file.write_text(config(written / "m"))
    client = serve(model_config_file=str(file), model_config_file_poll_wait_seconds=1)
    other = Client(client.address, "other")
    file.write_text("this does not parse")
    file.write_text(config(written / "m", name="other"))
    eventually(lambda: _answers(other))
    eventually(lambda: not _answers(client))


def _answers(client: Client) -> bool:
    try:
        return answering(client) > 0
    except grpc.RpcError:
        return False
