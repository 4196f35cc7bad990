"""Failed devices: told from mistakes and from failed allocations, and in one line with what is left to do."""

import re
import time

import pytest
import torch
import torch.distributed as dist

from sngd import Box, cli
from sngd.allocation import is_out_of_memory
from sngd.breakdown import how_to_go_on, telling_how_to_go_on
from sngd.condition import Condition, evaluate_residual
from sngd.device_errors import is_device_error, is_machine_failure, is_network_error, reason
from sngd.exit_codes import DEVICE
from sngd.failures import LostRankError
from sngd.loop import Loop
from tests.histories import losses

ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call.\nFor debugging …"
ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)
NCCL = "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268, {}, NCCL version 2.21.5\n{}"
DEVICES = {
    "assert": ACCELERATOR(f"CUDA error: device-side assert triggered{ADVICE}"),
    "memory": ACCELERATOR(f"CUDA error: an illegal memory access was encountered{ADVICE}"),
    "ecc": ACCELERATOR(f"CUDA error: uncorrectable ECC error encountered{ADVICE}"),
    "before 2.8": RuntimeError(f"CUDA error: unspecified launch failure{ADVICE}"),
    "library": RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasDgemm( … )`"),
    "solver": RuntimeError("cusolver error: CUSOLVER_STATUS_INTERNAL_ERROR, when calling `cusolverDn…`"),
    "nccl": dist.DistBackendError(
        NCCL.format("unhandled cuda error (run with …)", "…\nLast error:\nCuda failure 719")
    ),
}
NETWORKS = {
    "nccl": dist.DistBackendError(
        NCCL.format("remote process exited or there was a network error", "…\nLast error:\nsocket")
    ),
    "gloo": RuntimeError("[/x/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"),
    "store": dist.DistNetworkError("failed to recv, got 0 bytes"),
}
OTHERS = {
    "ours": RuntimeError("shapes do not match"),
    "user's": ValueError("CUDA error: not raised by torch"),
    "allocation": RuntimeError("CUDA error: out of memory"),
    "handle": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "numerics": torch.linalg.LinAlgError("linalg.svd: the algorithm failed to converge"),
}
SMALL = ["--device", "cpu", "--network.hidden", "6", "6", "--optimizer.rank", "8", "--quiet"]


@pytest.mark.parametrize("kind", DEVICES)
def test_what_a_failed_device_looks_like(kind):
    assert (is_device_error(DEVICES[kind]), is_network_error(DEVICES[kind])) == (True, False)
    assert is_machine_failure(DEVICES[kind])
    assert "\n" not in reason(DEVICES[kind])


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_a_failed_network_looks_like(kind):
    assert (is_device_error(NETWORKS[kind]), is_network_error(NETWORKS[kind])) == (False, True)
    assert "\n" not in reason(NETWORKS[kind])


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_neither(kind):
    assert not is_device_error(OTHERS[kind])
    assert not is_network_error(OTHERS[kind])
    assert is_machine_failure(OTHERS[kind]) is is_out_of_memory(OTHERS[kind])


def test_reasons_name_what_failed_and_what_may_help():
    hint = "(an index out of range, most likely: CUDA_LAUNCH_BLOCKING=1 tells where)"
    assert reason(DEVICES["assert"]) == f"CUDA error: device-side assert triggered {hint}"
    assert reason(DEVICES["nccl"]).startswith("NCCL error: unhandled cuda error")
    assert "(Cuda failure 719)" in reason(DEVICES["nccl"])
    assert "/pytorch/" not in reason(DEVICES["nccl"])


def test_a_residual_is_not_blamed_for_its_device():
    def broken(u, p):
        raise DEVICES["memory"]

    condition = Condition("equation", broken, Box(x=(0, 1), t=(0, 1)).interior, 1)
    with pytest.raises(type(DEVICES["memory"])):
        evaluate_residual(condition, None, torch.zeros(1, 2))


def test_before_the_folder_is_made_there_is_nothing_to_go_on_from(tmp_path):
    assert how_to_go_on(tmp_path) == "nothing was written yet: start the run again"
    (tmp_path / "config.json").write_text("{}")
    assert how_to_go_on(tmp_path) == (
        f"{tmp_path} holds no checkpoint yet: `sngd resume {tmp_path}` begins anew"
    )
    broken = tmp_path / "checkpoints" / "step-000000005"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("half of it")
    assert how_to_go_on(tmp_path).startswith(f"checkpoint {str(broken)!r} cannot be read: ")


@pytest.mark.parametrize(("text", "told"), [("", False), ("rank 1 on here is lost", True)])
def test_a_lost_rank_is_told_with_the_way_on_by_the_rank_that_tells_it(tmp_path, text, told):
    with pytest.raises(LostRankError) as caught, telling_how_to_go_on(torch.device("cpu"), tmp_path):
        raise LostRankError(text)
    assert str(caught.value) == (f"{text}; {how_to_go_on(tmp_path)}" if told else "")


def test_other_errors_pass(tmp_path):
    for error in OTHERS.values():
        with pytest.raises(type(error)) as caught, telling_how_to_go_on(torch.device("cpu"), tmp_path):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(("kind", "word"), [("assert", "device cpu"), ("gloo", "the connection")])
def test_a_run_whose_machine_fails_ends_in_one_line_and_goes_on(tmp_path, monkeypatch, capsys, kind, word):
    folder, left = tmp_path / "run", list[int]()
    monkeypatch.setattr("sngd.failures.leave", left.append)
    original = Loop.step

    def step(self, number):
        if number == 9:
            while not list(folder.glob("checkpoints/step-*/SHA256SUMS")):  # written meanwhile
                time.sleep(0.02)
            raise (DEVICES | NETWORKS)[kind]
        original(self, number)

    flags = [*SMALL, "--max-steps", "12", "--checkpoint-seconds", "1e-9", "--run-dir", str(folder)]
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "step", step)
        assert cli.main(["train", "problems:heat", *flags]) == DEVICE
    assert left == [DEVICE]
    (line,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(
        rf"error: rank 0 on \S+: {word}.* has failed: .*; the last whole checkpoint in {folder} is of step "
        rf"(\d+): `sngd resume {folder}` goes on from it",
        line,
    )
    assert found, line
    assert 0 < int(found[1]) <= len(losses(folder))
    assert cli.main(["resume", str(folder), "--quiet"]) == 0
    assert len(losses(folder)) == 12
