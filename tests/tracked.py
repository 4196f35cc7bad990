"""A run as hooks are told of it: what starts it, its steps, its result."""

from __future__ import annotations

from typing import Any

INFO: dict[str, Any] = {
    "name": "burgers",
    "network": "Network(3-20-1, tanh, P=1,361)",
    "parameters": 1361,
    "points": 10240,
    "world_size": 2,
    "device": "cpu",
    "dtype": "torch.float64",
    "optimizer": "SNGD",
    "max_steps": 1000,
    "max_seconds": 80.0,
    "target_error": 1e-8,
    "run_dir": "runs/burgers",
}
RESULT = {"relative_l2": 1.5e-8, "loss": 3e-15, "steps": 77, "seconds": 75.0, "stop_reason": "max_seconds"}


def record(step: int, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
    known = {"step": step, "seconds": seconds, "loss": 0.5, "relative_l2": 0.25, "damping": 1e-3, "rank": 64}
    return known | more
