"""A network and a server that misbehave: refusals, stalls, hangs, cuts. The job ends as if nothing had been."""

import math
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from serving.network.protos import prediction_pb2 as pb
from tests.faults.conftest import START
from tests.faults.front import Front
from tests.faults.jobs import account, assert_same, parts, rows, wait_until

pytestmark = pytest.mark.faults


def test_a_third_of_the_requests_refused(start: START, front: Front, undisturbed: Path, tmp_path: Path) -> None:
    front.refused_share = 0.3
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)
    assert front.asked > 14  # some were asked again


def test_stalls_of_two_seconds(start: START, front: Front, undisturbed: Path, tmp_path: Path) -> None:
    front.stall_share = 0.25
    job = start(front.address, "--deadline", 1.5)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_hang_that_ends(start: START, front: Front, undisturbed: Path, tmp_path: Path) -> None:
    front.hold_after(7)
    job = start(front.address, "--deadline", 1)
    wait_until(lambda: parts(tmp_path / "out") and front.held, job)
    asked = front.asked
    wait_until(lambda: front.asked > asked + 2, job)
    front.open.set()
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_hang_that_does_not_end_stops_the_run_resumable(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.hold_after(7)
    job = start(front.address, "--deadline", 1, "--patience", 2)
    assert job.wait() == 75
    assert "DEADLINE_EXCEEDED" in job.said
    assert "Traceback" not in job.said
    assert not (tmp_path / "out" / "run.json").exists()
    done = parts(tmp_path / "out")
    front.open.set()
    again = start(front.address)
    assert again.wait() == 0, again.said
    assert_same(tmp_path / "out", undisturbed)
    assert done.items() <= parts(tmp_path / "out").items()  # no committed chunk was asked again


def test_a_server_that_refuses_everything_is_not_buried(start: START, front: Front, tmp_path: Path) -> None:
    front.refused_share = 1.0
    job = start(front.address, "--patience", 3)
    assert job.wait() == 75
    assert not (tmp_path / "out" / "run.json").exists()
    assert front.asked < 40


def test_a_server_that_begins_to_refuse_stops_the_run_resumable(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.spared, front.refused_share = 22, 1.0
    front.refusals = ((grpc.StatusCode.INTERNAL, "the device is lost"),)
    job = start(front.address)
    assert job.wait() == 75, job.said
    assert "refuses what it has answered before" in job.said
    front.refused_share = 0.0
    again = start(front.address)
    assert again.wait() == 0, again.said
    assert_same(tmp_path / "out", undisturbed)


def test_a_status_that_does_not_pass_ends_the_run_at_once(start: START, front: Front) -> None:
    front.refused_share, front.refusals = 1.0, ((grpc.StatusCode.PERMISSION_DENIED, "not for you"),)
    job = start(front.address)
    assert job.wait() == 1
    assert "not for you" in job.said
    assert front.asked == 1


def cut(answer: bytes) -> bytes:
    return answer[:-5] + b"\xff"


def nothing(reply: pb.PredictResponse) -> None:
    reply.ClearField("outputs")


def one_output_less(reply: pb.PredictResponse) -> None:
    del reply.outputs[min(reply.outputs)]


def one_row_less(reply: pb.PredictResponse) -> None:
    for tensor in reply.outputs.values():
        size = tensor.tensor_shape.dim[0]
        for values in (tensor.float_val, tensor.bool_val, tensor.string_val):
            del values[len(values) - len(values) // size.size :]
        size.size -= 1


def one_value_less(reply: pb.PredictResponse) -> None:
    for tensor in reply.outputs.values():
        del tensor.float_val[-1:]


def another_dtype(reply: pb.PredictResponse) -> None:
    for tensor in reply.outputs.values():
        tensor.dtype = 9


@pytest.mark.parametrize("change", [cut, nothing, one_output_less, one_row_less, one_value_less, another_dtype])
def test_answers_that_are_none_cost_no_row_and_mix_up_none(
    start: START, front: Front, undisturbed: Path, tmp_path: Path, change: Callable[..., bytes | None]
) -> None:
    def spoil(answer: bytes) -> bytes:
        if change is cut:
            return cut(answer)
        reply = pb.PredictResponse.FromString(answer)
        change(reply)
        return reply.SerializeToString()

    front.spoil, front.spoilt_share = spoil, 0.3
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert "Traceback" not in job.said
    assert_same(tmp_path / "out", undisturbed)


def test_scores_that_are_no_numbers_fail_and_are_asked_again(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    def spoil(answer: bytes) -> bytes:
        reply = pb.PredictResponse.FromString(answer)
        for tensor in reply.outputs.values():
            tensor.float_val[:] = [math.nan for _ in tensor.float_val]
        return reply.SerializeToString()

    front.spared, front.spoil, front.spoilt_share = 22, spoil, 1.0
    job = start(front.address)
    assert job.wait() == 3, job.said
    assert {row["reason"] for row in rows(tmp_path / "out" / "failed.csv")} == {"not_finite"}
    assert account(tmp_path / "out").failed
    front.spoilt_share = 0.0
    again = start(front.address, "--retry-failed")
    assert again.wait() == 0, again.said
    assert_same(tmp_path / "out", undisturbed)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS])
def test_refusals_of_a_kernel_or_a_handler_reject_no_image(
    start: START, front: Front, undisturbed: Path, tmp_path: Path, code: grpc.StatusCode
) -> None:
    front.refused_share, front.refusals = 0.3, ((code, "something raised"),)
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)


def test_all_addresses_are_asked_and_one_that_dies_is_done_without(
    start: START, server: str, undisturbed: Path, tmp_path: Path
) -> None:
    with Front(server) as first:
        with Front(server) as second:
            first.delay_s = second.delay_s = 0.1
            job = start(f"{first.address},{second.address}")
            wait_until(lambda: parts(tmp_path / "out"), job)
        assert job.wait() == 0, job.said
        assert first.asked
        assert second.asked
    assert_same(tmp_path / "out", undisturbed)


def test_a_stream_that_a_proxy_breaks_off_rejects_no_image(
    start: START, front: Front, undisturbed: Path, tmp_path: Path
) -> None:
    front.refused_share, front.refusals = 0.4, ((grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),)
    job = start(front.address)
    assert job.wait() == 0, job.said
    assert_same(tmp_path / "out", undisturbed)
