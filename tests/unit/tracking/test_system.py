"""System figures: held against what the system says, and measured on a clock of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sngd.tracking import SystemFigures, system

CPU = torch.device("cpu")


def test_memory_is_what_is_resident() -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("no /proc here")
    before = SystemFigures(CPU).sample()["memory_bytes"]
    held = torch.ones(16 * 1024**2)  # 64 MiB
    after = SystemFigures(CPU).sample()["memory_bytes"]
    (told,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
    assert after == pytest.approx(int(told.split()[1]) * 1024, rel=0.05)
    assert after - before == pytest.approx(held.nbytes, rel=0.1)


def test_load_is_processor_time_over_elapsed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, used = [100.0], [5.0]
    monkeypatch.setattr(system.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(system.time, "process_time", lambda: used[0])
    figures = SystemFigures(CPU, every=2.0)
    assert "cpu_percent" not in figures.sample()
    now[0], used[0] = 104.0, 11.0
    assert figures.sample()["cpu_percent"] == 150.0
    now[0], used[0] = 105.0, 12.0
    assert figures.sample()["cpu_percent"] == 150.0, "it is told again until two seconds are over"
    now[0] = 106.0
    assert figures.sample()["cpu_percent"] == 50.0


def test_between_measurements_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(SystemFigures, "_memory", lambda self: asked.append(1) or 7)
    figures = SystemFigures(CPU, every=1e9)
    assert [figures.sample() for _ in range(100)] == [{"memory_bytes": 7}] * 100
    assert len(asked) == 1


def test_a_gpu_is_asked_for_its_own_memory_and_use(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda asked: 10**9 * asked.index)
    monkeypatch.setattr(torch.cuda, "utilization", lambda asked: 90 + asked.index)
    assert SystemFigures(device).sample() == {"memory_bytes": 10**9, "gpu_percent": 91.0}


def test_without_pynvml_the_use_of_a_gpu_is_left_out_and_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def absent(device: torch.device) -> int:
        asked.append(device)
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 3)
    monkeypatch.setattr(torch.cuda, "utilization", absent)
    figures = SystemFigures(torch.device("cuda", 0), every=0.0)
    assert [figures.sample()["memory_bytes"] for _ in range(3)] == [3, 3, 3]
    assert len(asked) == 1
