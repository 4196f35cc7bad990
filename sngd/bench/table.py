"""Summaries in words: the same cells for the console and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import rich.box
import rich.markup
import rich.table

from sngd.bench.summary import Row, Spread, rows, shown_milestones

__all__ = ["by_task", "caption", "console_table", "markdown_table"]


def by_task(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Records of each task, in their order."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        grouped.setdefault(record["task"], []).append(record)
    return grouped


def caption(records: Sequence[dict[str, Any]]) -> str:
    """Size, budget and number of seeds of one task."""
    sized = next((r for r in records if r["parameters"]), None)
    size = f"P = {sized['parameters']:,}, N = {sized['points']:,}, " if sized else ""
    seeds = len({r["seed"] for r in records})
    ranks = f", {records[0]['ranks']} ranks" if records[0]["ranks"] > 1 else ""
    return f"{size}{records[0]['budget']:g} s, {seeds} seed{'s' * (seeds > 1)}{ranks}"


def seconds(value: float) -> str:
    """Two or three digits: 0.021, 0.85, 7.2, 43, 1,210."""
    if value < 0.1:
        return f"{value:.3f}"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _span(spread: Spread, form: Any) -> str:
    """Median (range) n/m, or a dash."""
    if math.isnan(spread.median):
        return "–"
    median, low, high = (form(v) for v in (spread.median, spread.low, spread.high))
    text = median if low == high == median else f"{median} ({low}–{high})"
    return text if spread.count == spread.of else f"{text} {spread.count}/{spread.of}"


def _header(milestones: Sequence[str]) -> list[str]:
    return ["", *[f"{name} [s]" for name in milestones], "final error", "memory [MB]", "s/step", "failed"]


def _cells(row: Row, milestones: Sequence[str]) -> list[str]:
    times = [_span(row.times[name], seconds) if name in row.times else "–" for name in milestones]
    failed = ", ".join(f"{count} {kind}" for kind, count in row.failures.items())
    memory = "–" if math.isnan(row.memory.median) else f"{row.memory.median / 1e6:,.0f}"
    step = "–" if math.isnan(row.step.median) else f"{row.step.median:.2g}"
    return [row.label, *times, _span(row.error, lambda v: f"{v:.1e}"), memory, step, failed]


def _content(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells; the last column only where something failed."""
    table = rows(records)
    milestones = shown_milestones(table)
    header, lines = _header(milestones), [_cells(row, milestones) for row in table]
    if not any(line[-1] for line in lines):
        header, lines = header[:-1], [line[:-1] for line in lines]
    return header, lines


def console_table(task: str, records: Sequence[dict[str, Any]]) -> rich.table.Table:
    """One task for the console."""
    header, lines = _content(records)
    table = rich.table.Table(title=f"{task}: {caption(records)}", title_justify="left", box=rich.box.SIMPLE)
    for number, name in enumerate(header):
        table.add_column(rich.markup.escape(name), justify="left" if number == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def markdown_table(records: Sequence[dict[str, Any]]) -> str:
    """One task for a page."""
    header, lines = _content(records)
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, rule, *lines])
