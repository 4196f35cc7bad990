"""A plan as tables on the console: `sngd plan`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import rich.box
import rich.console
import rich.table

from sngd.planning import CORRECTIONS, EVALUATIONS, Forecast, human

__all__ = ["parse_bytes", "show"]

_BYTES = {"": 1e9, "B": 1.0}
_BYTES |= {f"{prefix}B": 1000.0**power for power, prefix in enumerate("KMGT", start=1)}
_BYTES |= {f"{prefix}IB": 1024.0**power for power, prefix in enumerate("KMGT", start=1)}
_WIDE = 140


def parse_bytes(text: str, field: str) -> int:
    """Bytes of "80GB", "500MB", "1.5GiB", or of a plain number of GB.

    Args:
        text: what the user wrote.
        field: how an error calls it.

    Raises:
        ValueError: it is none of these, or not above zero.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]*)\s*", text)
    unit = match.group(2).upper() if match else None
    count = int(float(match.group(1)) * _BYTES[unit]) if match and unit in _BYTES else 0
    if count < 1:
        raise ValueError(f"{field}={text} must be an amount > 0 such as 80GB, 500MB, 1.5GiB or 80 (GB)")
    return count


def show(forecast: Forecast, console: rich.console.Console | None = None) -> None:
    """Print sizes, arrangement, memory and traffic.

    Args:
        forecast: what is printed.
        console: where; standard output when absent.
    """
    out = console or rich.console.Console(highlight=False, emoji=False)
    if not out.is_terminal and console is None:
        out.width = _WIDE
    out.print(_title(forecast), markup=False, soft_wrap=True)
    out.print(_sizes(forecast))
    ranks: list[int | None] = [None]
    if forecast.sketched:
        ranks = list(dict.fromkeys([forecast.first, forecast.largest]))
        out.print(_arrangement(forecast, [k for k in ranks if k is not None]))
    out.print(_memory(forecast, ranks))
    if forecast.sketched:
        if forecast.sizes.ranks > 1:
            out.print(_traffic(forecast, [k for k in ranks if k is not None]))
        size, gramian = forecast.sizes.parameters, human(forecast.gramian)
        out.print(f"The Gramian is never formed: {size:,}² numbers, {gramian}.", soft_wrap=True)
    elif not any("²" in name for name in forecast.items(None)):
        what = type(forecast.run.optimizer).__name__
        out.print(f"{what} has no sketch and no Gram matrix: P numbers of a gradient travel.", soft_wrap=True)


def _title(forecast: Forecast) -> str:
    run, count = forecast.run, forecast.sizes.ranks
    return (
        f"{run.problem.name}: {forecast.network!r}, {type(run.optimizer).__name__}, "
        f"{count:,} {'rank' if count == 1 else 'ranks'} on {forecast.device.type}, "
        f"{human(forecast.plan.budget)} each"
    )


def _table(title: str, columns: Sequence[str]) -> rich.table.Table:
    table = rich.table.Table(title=title, title_justify="left", box=rich.box.SIMPLE)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def _headers(forecast: Forecast, ranks: Sequence[int]) -> list[str]:
    """Names of the columns of one or two ranks."""
    binding = f"k = {ranks[-1]:,}, the largest ({forecast.binding})"
    return ["", binding] if len(ranks) == 1 else ["", f"k = {ranks[0]:,}, the first", binding]


def _sizes(forecast: Forecast) -> rich.table.Table:
    sizes, run = forecast.sizes, forecast.run
    table = _table("sizes", ["", "all ranks", "a rank"])
    table.add_row("parameters P", f"{sizes.parameters:,}", f"{sizes.parameters:,}")
    table.add_row("points", f"{run.problem.points:,}", f"{sizes.points:,}")
    table.add_row("rows N", f"{forecast.rows:,}", f"{sizes.rows:,}")
    table.add_row("Taylor channels", f"{sizes.channels}", "")
    table.add_row("residual components", f"{sizes.components}", "")
    table.add_row("precision", run.precision, "")
    return table


def _arrangement(forecast: Forecast, ranks: Sequence[int]) -> rich.table.Table:
    table = _table("arrangement", _headers(forecast, ranks))
    table.add_row("Jacobian J", *[forecast.jacobian_words] * len(ranks))
    table.add_row("basis Q", *[forecast.basis_words(k) for k in ranks])
    table.add_row("product A = J Q", *[forecast.product_words(k) for k in ranks])
    return table


def _memory(forecast: Forecast, ranks: Sequence[int | None]) -> rich.table.Table:
    known = [k for k in ranks if k is not None]
    table = _table("memory of a rank", _headers(forecast, known) if known else ["", "bytes"])
    items = [forecast.items(k) for k in ranks]
    for name in items[0]:
        table.add_row(name, *[human(item[name]) for item in items])
    table.add_section()
    table.add_row("total", *[human(sum(item.values())) for item in items])
    table.add_row("budget", *[human(forecast.plan.budget)] * len(items))
    return table


def _traffic(forecast: Forecast, ranks: Sequence[int]) -> rich.table.Table:
    title = f"bytes that travel in a step ({EVALUATIONS} evaluations, {CORRECTIONS} corrections)"
    table = _table(title, _headers(forecast, ranks))
    moved = [forecast.traffic(k) for k in ranks]
    for name in dict.fromkeys(name for part in moved for name in part):
        table.add_row(name, *[human(part[name]) if name in part else "–" for part in moved])
    table.add_section()
    table.add_row("total", *[human(sum(part.values())) for part in moved])
    return table
