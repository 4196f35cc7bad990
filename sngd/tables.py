"""Columns of numbers from files, CSV and NPZ; what is wrong with one is told with its place."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sngd.checks import told, words_of

__all__ = ["read_csv", "read_npz"]

Table = tuple[dict[str, np.ndarray], tuple[str, ...]]


def read_csv(path: str | Path, axes: Sequence[str], values: Sequence[str] | str = ()) -> Table:
    """Columns of a table with a header line.

    Args:
        path: the file, fields parted by commas.
        axes: columns that it must have, the coordinates.
        values: columns to take beside them, or one by its name; all others when absent.

    Returns:
        Columns (n,) by name, and the names of the values.

    Raises:
        ValueError: naming file, column and line.
    """
    with _reading(path), open(path, newline="", encoding="utf-8-sig") as file:
        lines = [(number, row) for number, row in enumerate(csv.reader(file), 1) if any(row)]
    if len(lines) < 2:
        raise ValueError(f"data file {str(path)!r} is empty: it must have a header line and rows")
    header = [name.strip() for name in lines[0][1]]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"data file {str(path)!r}: columns {repeated} appear more than once")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise ValueError(
                f"data file {str(path)!r}, line {number}: {len(row)} entries, the header has {len(header)}"
            )
    chosen = _chosen(path, header, axes, values)
    table = {}
    for name in (*axes, *chosen):
        place = header.index(name)
        table[name] = np.array([_number(path, name, number, row[place]) for number, row in lines[1:]])
    return table, chosen


def read_npz(path: str | Path, axes: Sequence[str], values: Sequence[str] | str = ()) -> Table:
    """Arrays of an NPZ file, all (n,).

    Args:
        path: the file.
        axes: arrays that it must have, the coordinates.
        values: arrays to take beside them, or one by its name; all others when absent.

    Returns:
        Arrays (n,) by name, and the names of the values.

    Raises:
        ValueError: naming file and array.
    """
    with _reading(path):
        file: Any = np.load(path, allow_pickle=False)
        if not hasattr(file, "files"):
            raise ValueError("it holds one array without a name; numpy.savez gives names")
        with file:
            arrays = {name: file[name] for name in file}
    chosen = _chosen(path, list(arrays), axes, values)
    first = arrays[axes[0]]
    table = {}
    for name in (*axes, *chosen):
        array = arrays[name]
        if array.ndim != 1 or array.shape != first.shape or array.dtype.kind not in "fiub":
            raise ValueError(
                f"data file {str(path)!r}, array {name!r}: {array.dtype} of shape {array.shape} must be "
                f"real numbers of one dimension, as many as {axes[0]!r} has, {first.shape}"
            )
        table[name] = array.astype(np.float64)
    return table, chosen


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Errors of reading as ValueErrors that name the file."""
    try:
        yield
    except Exception as error:  # damaged files fail in any way
        raise ValueError(f"data file {str(path)!r} cannot be read: {words_of(error)}") from error


def _chosen(
    path: str | Path, found: Sequence[str], axes: Sequence[str], values: Sequence[str] | str
) -> tuple[str, ...]:
    """Names of the columns that are values."""
    values = (values,) if isinstance(values, str) else values
    if not (isinstance(values, (tuple, list)) and all(isinstance(name, str) for name in values)):
        raise ValueError(f'Data values={told(values)} must be names of columns, e.g. ("u", "v")')
    chosen = tuple(values) or tuple(name for name in found if name not in axes)
    missing = [name for name in (*axes, *chosen) if name not in found]
    if missing:
        raise ValueError(
            f"data file {str(path)!r} has no column {missing[0]!r}; it has {', '.join(found) or 'none'}, and "
            f"the axes are {', '.join(axes)}"
        )
    if not chosen:
        raise ValueError(f"data file {str(path)!r} has no columns but the axes: no values")
    return chosen


def _number(path: str | Path, name: str, line: int, entry: str) -> float:
    try:
        value = float("nan" if "_" in entry else entry)  # Python would read 1_5 as 15
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError(
            f"data file {str(path)!r}, column {name!r}, line {line}: {entry!r} must be a finite number"
        )
    return value
