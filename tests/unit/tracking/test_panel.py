"""The panel as text."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import rich.console
from rich.cells import cell_len

from sngd.tracking.panel import LINES, Panel, clock, number
from tests.tracked import INFO, record

SKETCH = {"spectrum": [10.0**-i for i in range(32)], "effective_dimension": 41.25}


def shown(panel: Panel, width: int = 100, done: float | None = 0.25, plain: bool = False) -> list[str]:
    out = io.StringIO()
    rich.console.Console(file=out, width=width, emoji=False).print(panel.draw(width, done, plain))
    return out.getvalue().splitlines()


def falling(info: dict[str, Any] = INFO, steps: int = 40, **more: Any) -> Panel:
    """Loss and error lose a decade in ten steps of half a second."""
    panel = Panel(info)
    for step in range(1, steps + 1):
        known = {"loss": 10.0 ** (-step / 5), "relative_l2": 10.0 ** (-step / 10)}
        panel.observe(record(step, 0.5 * step, **(known | SKETCH | more)))
    return panel


def test_the_whole_panel() -> None:
    lines = shown(falling(), 80)
    assert [line.strip("│╭╮╰╯─ ").split("  ")[0] for line in lines] == [
        *("burgers", "step 40 of 1000", "loss", "error", "spectrum", "damping", "")
    ]
    assert "20.0 s  ━━━" in lines[1]
    assert lines[1].endswith(" 25 %  1:00 left │")
    assert "loss      1.00e-08  ███▇" in lines[2]
    assert lines[2].rstrip(" │").endswith("▁  from 6.31e-01")
    assert lines[3].rstrip(" │").endswith("1e-08 in about 20 s"), "four decades, each of five seconds"
    assert "1.00e-31" in lines[4]
    assert "from 1.00e+00" in lines[4]
    assert "1.00e-03  rank 64, effective dimension 41.2" in lines[5]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("width", [60, 61, 80, 99, 120, 200, 500])
@pytest.mark.parametrize("name", ["burgers", "x" * 300, "方程式" * 40, "a\nb\x1b[2J\tc", "", "[bold]é"])
def test_every_line_is_as_wide_as_the_others_and_no_wider_than_the_terminal(
    name: str, width: int, plain: bool
) -> None:
    fields = {"marching": {"count": 12}, "warmup_steps": 100}
    warned = {"warnings": ["too few points " * 30], "slab": 3}
    panel = falling(INFO | {"name": name, "fields": fields}, **warned)
    lines = shown(panel, width, 0.5, plain)
    assert len(lines) == LINES
    assert len({cell_len(line) for line in lines}) == 1
    assert cell_len(lines[0]) <= min(width, 100)
    assert "\x1b" not in "".join(lines)
    if plain:
        assert "".join(lines).isascii()
    assert "! step 40: too few points" in lines[-2]
    assert "slab 4 of 12" in lines[0]


def test_what_is_unknown_is_left_out() -> None:
    panel = Panel({})
    panel.observe({})
    lines = shown(panel, 80, None)
    assert [line.strip("│╭╮╰╯─ ") for line in lines] == ["run", "step 0  0.0 s", "loss      –", ""]
    panel.observe(record(1, 1.0, loss=math.nan, relative_l2=None, damping=None, rank=None, spectrum=None))
    assert len(shown(panel, 80, 0.0)) == 4
    panel.observe(record(2, 1.0, damping=math.inf, spectrum=[1.0, 0.0, math.nan, None], relative_l2=0.0))
    assert "spectrum  1.00e+00" in "\n".join(shown(panel, 80, 1.0))


def test_errors_that_are_taken_now_and_then_stay() -> None:
    panel = falling(steps=10)
    panel.observe(record(11, 5.5, relative_l2=None))
    lines = shown(panel)
    assert "error     1.00e-01" in lines[3]
    assert "spectrum" in lines[4]


def test_a_target_beyond_the_budget_is_too_late() -> None:
    assert "1e-08 in about 20 s, too late" in shown(falling(), done=0.9)[3]
    assert "too late" not in shown(falling(), done=0.25)[3]
    assert "in about" not in "".join(shown(falling(INFO | {"target_error": None})))
    assert "in about" not in "".join(shown(falling(steps=5)))


def test_phases() -> None:
    fields = {"warmup_steps": 5, "curriculum": {"coefficient": "nu"}, "marching": None}
    fields["problem"] = {"coefficients": {"nu": 0.01}}
    panel = Panel(INFO | {"fields": fields})
    panel.observe(record(5, 1.0, known={"nu": 0.1}))
    assert "warm-up, nu = 0.1 on its way to 0.01" in shown(panel)[0]
    panel.observe(record(6, 1.0, known={"nu": 0.01}, causal={"least_weight": 0.25}))
    assert shown(panel)[0].rstrip("╮─ ").endswith("─ least causal weight 0.25")


def test_each_slab_has_its_own_warm_up() -> None:
    panel = Panel(INFO | {"fields": {"warmup_steps": 2, "marching": {"count": 3}}})
    found = []
    for step, slab in enumerate([0, 0, 0, 1, 1, 1], start=1):
        panel.observe(record(step, 1.0, slab=slab))
        found.append("warm-up" in shown(panel)[0])
    assert found == [True, True, False, True, True, False]
    assert "slab 2 of 3" in shown(panel)[0]


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "0.0 s"), (59.94, "59.9 s"), (59.96, "0:59"), (75, "1:15"), (7200, "2:00:00")]
)
def test_clock(seconds: float, told: str) -> None:
    assert clock(seconds) == told


def test_number() -> None:
    assert [number(v) for v in (None, math.nan, 12345.6)] == ["–", "–", "1.23e+04"]
