"""`sngd plan`."""

from __future__ import annotations

import torch

from sngd.assembly import own_budget, plan_memory
from sngd.commands.common import load
from sngd.composite import build_network
from sngd.config import RunConfig
from sngd.flags import Parser
from sngd.plan_table import parse_bytes, show
from sngd.planning import Forecast

__all__ = ["plan", "plan_parser"]

# Of a number of ranks or directions.
_DIGITS = 9


def plan_parser() -> Parser:
    """The parser of `sngd plan`; fields of CONFIG are what it leaves over."""
    parser = Parser(
        prog="sngd plan",
        usage="sngd plan CONFIG [--ranks N] [--memory SIZE] [--rank K] [--FIELD VALUE ...]",
        description="Show how the run that CONFIG defines would be arranged, without running it: memory of a "
        "rank, what is kept and what travels between ranks in a step. Flags replace fields of CONFIG as for "
        "sngd train. Exit code 2 where the memory does not do.",
        examples={
            "plan mypde.py": "on one process of this machine",
            "plan problems:heat_million --ranks 64 --memory 80GB": "on 64 GPUs that need not be here",
        },
        add_help=False,
    )
    parser.add_argument("config", metavar="CONFIG", help="as for sngd train")
    parser.add_argument("--ranks", default="1", metavar="N", help="number of ranks (default 1)")
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="of a rank: 80GB, 500MB, 1.5GiB or GB; default: memory_gb, or half of what is free here",
    )
    parser.add_argument("--rank", metavar="K", help="sketch rank to start with, in place of the config's")
    return parser


def plan(given: list[str]) -> int:
    """The command `sngd plan`."""
    options, flags = plan_parser().split(given)
    run, _ = load(options.config, flags, f"sngd plan {options.config}")
    ranks = _whole("--ranks", options.ranks)
    rank = None if options.rank is None else _whole("--rank", options.rank)
    device = _planned_device(run, options.memory)
    told = options.memory is not None
    budget = parse_bytes(options.memory, "--memory") if told else own_budget(run, ranks, device)
    network = build_network(run.problem, run.network, run.seed)
    forecast = Forecast(run, network, plan_memory(run, network, ranks, device, budget), device, rank)
    show(forecast)
    shortage = forecast.shortage()
    if shortage:
        raise ValueError(shortage)
    return 0


def _whole(flag: str, text: str) -> int:
    if not text.isdecimal() or len(text) > _DIGITS or int(text) < 1:
        raise ValueError(f"{flag}={text:.99} must be a whole number ≥ 1")
    return int(text)


def _planned_device(run: RunConfig, memory: str | None) -> torch.device:
    """The kind of device to plan for, which need not be here as long as its memory is told."""
    here = torch.cuda.is_available()
    kind = ("cuda" if here else "cpu") if run.device == "auto" else run.device
    if kind == "cuda" and not here and memory is None and run.memory_gb is None:
        raise ValueError("--memory is missing: no CUDA device is here to ask, say what one has, e.g. 80GB")
    return torch.device(kind)
