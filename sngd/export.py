"""A run's fields and network in files that other programs read.

    npz    fields on a grid or at points, for NumPy
    vtk    the same as a mesh (.vtu), for ParaView; up to three coordinates
    pt2    the network as a program of torch.export, for PyTorch without this package
    onnx   the network for any runtime of ONNX

A network file takes points x (n, d) of the run's precision and returns the fields (n, fields).
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sngd.checks import words_of
from sngd.evaluate import compare
from sngd.fields import fields_at
from sngd.networks import AnyNetwork
from sngd.problem import Problem

__all__ = ["FORMATS", "Sampled", "default_counts", "export_fields", "export_network", "read_points"]

FORMATS = {"npz": ".npz", "vtk": ".vtu", "pt2": ".pt2", "onnx": ".onnx"}
# A torch that traces what is vmapped; 2.6 does not.
_TRACES = "2.13"
# Points of every axis of a grid by the number of axes; further axes are held in the middle.
_COUNTS = {1: 1001, 2: 101, 3: 51}
# Corners of a cell of a grid in VTK's order, as steps along the axes.
_CELLS: dict[int, tuple[str, list[tuple[int, ...]]]] = {
    1: ("line", [(0,), (1,)]),
    2: ("quad", [(0, 0), (1, 0), (1, 1), (0, 1)]),
    3: ("hexahedron", [(*c, z) for z in (0, 1) for c in ((0, 0), (1, 0), (1, 1), (0, 1))]),
}


@dataclass(frozen=True)
class Sampled:
    """Where fields are wanted: a grid, or any points.

    Args:
        points: (m, d) float64; of a grid in C order.
        axes: the grid's coordinates along every axis, (n_1,) … (n_d,); empty for points without order.
    """

    points: Tensor
    axes: tuple[np.ndarray, ...] = ()

    @classmethod
    def grid(cls, problem: Problem, counts: Sequence[int]) -> Sampled:
        """A grid over the domain's bounding box with so many points along every axis; 1 holds the middle.

        Raises:
            ValueError: not one number ≥ 1 for every axis.
        """
        domain = problem.domain
        if len(counts) != domain.dim or any(n < 1 for n in counts):
            told, wanted = "x".join(map(str, counts)), ", ".join(domain.names)
            raise ValueError(f"grid={told} must be {domain.dim} whole numbers ≥ 1, one for each of {wanted}")
        axes = tuple(
            np.linspace(low, high, n) if n > 1 else np.array([(low + high) / 2])
            for n, (low, high) in zip(counts, domain.bounds, strict=True)
        )
        mesh = np.stack([values.ravel() for values in np.meshgrid(*axes, indexing="ij")], axis=1)
        return cls(torch.from_numpy(mesh), axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an array that holds one number per point."""
        return tuple(len(axis) for axis in self.axes) or (len(self.points),)


def default_counts(dim: int) -> tuple[int, ...]:
    """Points along every axis where nobody has asked for others."""
    free = min(dim, 3)
    return (_COUNTS[free],) * free + (1,) * (dim - free)


def read_points(path: Path, names: Sequence[str]) -> Sampled:
    """Points (m, d) of a file.

    Args:
        path: .npy with an array (m, d); .npz with an array of every coordinate's name; or text with a column
            for each coordinate, in their order or by a header that names them, separated by commas.
        names: of the coordinates.

    Raises:
        ValueError: the file cannot be read, or does not hold finite numbers for every coordinate.
    """
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix == ".npz":
            stored = np.load(path, allow_pickle=False)
            if not hasattr(stored, "files"):
                raise ValueError("it holds one array without a name; numpy.savez gives names")
            with stored:
                values = np.stack([stored[name] for name in names], axis=1)
        else:
            values = _read_text(path, names)
    except Exception as error:  # damaged files fail in any way
        raise ValueError(f"points file {str(path)!r} cannot be read: {words_of(error)}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        found = values.dtype if isinstance(values, np.ndarray) else f"a {type(values).__name__}"
        raise ValueError(f"points file {str(path)!r} must hold an array of real numbers, it holds {found}")
    fits = values.ndim == 2 and values.shape[1] == len(names) and len(values)
    if not (fits and np.isfinite(values).all()):
        raise ValueError(
            f"points file {str(path)!r} must hold finite numbers for {', '.join(names)}, shape "
            f"(points, {len(names)}); it holds {values.shape}"
        )
    return Sampled(torch.from_numpy(values.astype(np.float64)))


def _read_text(path: Path, names: Sequence[str]) -> np.ndarray:
    text = path.read_text(encoding="utf-8-sig")
    first = [word.strip() for word in text.partition("\n")[0].lstrip("# ").split(",")]
    headed = set(names) <= set(first)
    if headed and (repeated := sorted({name for name in names if first.count(name) > 1})):
        raise ValueError(f"columns {repeated} appear more than once")
    columns = [first.index(name) for name in names] if headed else None
    with warnings.catch_warnings():  # of a file without rows, which is refused
        warnings.simplefilter("ignore")
        return np.loadtxt(io.StringIO(text), delimiter=",", skiprows=int(headed), usecols=columns, ndmin=2)


def export_fields(
    problem: Problem, network: AnyNetwork, theta: Tensor, where: Sampled, path: Path, form: str = "npz"
) -> Path:
    """Write fields, known solution and error at points or on a grid.

    Arrays: the coordinates by their names, the fields by theirs, and with a known solution NAME_solution and
    NAME_error = network − solution. Points of a grid outside of the domain hold nan.

    Args:
        problem: names fields and coordinates.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
        where: the points.
        path: the file.
        form: "npz" or "vtk".

    Raises:
        ValueError: a package is missing, a mesh of more than three axes is wanted, or a field has the name
            of a coordinate.
    """
    names = problem.domain.names
    if shared := sorted(set(names) & set(problem.fields)):
        raise ValueError(f"fields {shared} are named like coordinates, a file cannot tell them apart")
    values = _values(problem, network, theta, where)
    if form == "vtk":
        _write_mesh(where, names, values, path)
        return path
    axes: Any = where.axes or tuple(where.points.T.numpy())
    coordinates = dict(zip(names, axes, strict=True))
    with path.open("wb") as stream:  # a name is kept as it is, np.savez would add .npz to it
        arrays: Any = coordinates | {n: v.reshape(where.shape) for n, v in values.items()}
        np.savez(stream, **arrays)
    return path


def _values(problem: Problem, network: AnyNetwork, theta: Tensor, where: Sampled) -> dict[str, np.ndarray]:
    """By its name what is known at the points, (m,) each; nan outside of the domain."""
    u, known = compare(problem, network, theta, where.points)
    values = dict(zip(problem.fields, u.T.numpy(), strict=True))
    if known is not None:
        for name, exact, error in zip(problem.fields, known.T.numpy(), (u - known).T.numpy(), strict=True):
            values |= {f"{name}_solution": exact, f"{name}_error": error}
    return values


def _write_mesh(where: Sampled, names: Sequence[str], values: dict[str, np.ndarray], path: Path) -> None:
    meshio = _optional("meshio", "a VTK file")
    x = where.points.numpy()
    free = [i for i, n in enumerate(where.shape) if n > 1] if where.axes else list(range(len(names)))
    if len(free) > 3:
        raise ValueError(
            f"a VTK file holds at most 3 coordinates, these points have {len(free)}: hold some in the middle "
            "by a grid with 1 in their place, or write npz"
        )
    if where.axes and free:
        kind, cells = _cells([where.shape[i] for i in free])
        known = ~np.isnan(next(iter(values.values())))
        cells = cells[known[cells].all(axis=1)]  # none that reaches out of the domain
    else:
        kind, cells = "vertex", np.arange(len(x))[:, None]
    points = np.zeros((len(x), 3))
    points[:, : len(free)] = x[:, free]
    meshio.Mesh(points, [(kind, cells)], point_data=values).write(path, file_format="vtu")


def _cells(shape: Sequence[int]) -> tuple[str, np.ndarray]:
    """Kind and corners (cells, corners) of a grid's cells, its points in C order."""
    kind, corners = _CELLS[len(shape)]
    first = np.meshgrid(*(np.arange(n - 1) for n in shape), indexing="ij")
    steps = [np.ravel_multi_index([f + s for f, s in zip(first, c, strict=True)], shape) for c in corners]
    return kind, np.stack([step.ravel() for step in steps], axis=1)


# ---------------------------------------------------------------------------------------------
# The network
# ---------------------------------------------------------------------------------------------


class Fields(nn.Module):
    """The fields of a problem as a module: x (n, d) → (n, fields), its parameters fixed.

    Args:
        problem: names the fields.
        network: on the dtype and device of theta.
        theta: (P,) parameters.
    """

    theta: Tensor

    def __init__(self, problem: Problem, network: AnyNetwork, theta: Tensor) -> None:
        super().__init__()
        self.problem, self.network = problem, network
        self.register_buffer("theta", theta.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """The fields at points (n, d), (n, fields)."""
        # point by point: what is traced knows nothing of their number, however the code asks for it
        return torch.vmap(self._at)(x)

    def _at(self, row: Tensor) -> Tensor:
        with _Joining():
            return fields_at(self.problem, self.network, self.theta, row[None])[0]


class _Joining(TorchFunctionMode):
    """torch.cat by sums of padded parts: its own rule under vmap fixes how many points a program takes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every call of torch within the context."""
        if func in (torch.cat, torch.concat, torch.concatenate):
            return self._join(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _join(self, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
        parts = [part for part in tensors if part.numel()] or [tensors[0]]
        beyond = [0, 0] * (-1 - dim if dim < 0 else parts[0].ndim - 1 - dim)
        total, start, joined = sum(part.shape[dim] for part in parts), 0, []
        for part in parts:
            stop = start + part.shape[dim]
            joined.append(nn.functional.pad(part, [*beyond, start, total - stop]))
            start = stop
        return torch.stack(joined).sum(0)


def export_network(
    problem: Problem, network: AnyNetwork, theta: Tensor, path: Path, form: str = "pt2"
) -> Path:
    """Write the network with its parameters; it takes any number of points.

    Args:
        problem: names fields and coordinates, which go along as metadata "coordinates" and "fields".
        network: on the dtype and device of theta; it is written for the CPU.
        theta: (P,) parameters.
        path: the file.
        form: "pt2", read by torch.export.load, or "onnx".

    Raises:
        ValueError: a package is missing, or the network does what the format has no name for.
    """
    theta = theta.detach().cpu()
    module = Fields(problem, network.to(theta.dtype, "cpu"), theta).eval()
    low, high = torch.tensor(problem.domain.bounds, dtype=theta.dtype).T
    sample = ((low + high) / 2).repeat(3, 1)
    shapes: Any = ({0: torch.export.Dim("points", min=1)},)
    told = {"coordinates": ",".join(problem.domain.names), "fields": ",".join(problem.fields)}
    if form == "onnx":
        _optional("onnx", "an ONNX file")
        _optional("onnxscript", "an ONNX file")
    try:
        program = torch.export.export(module, (sample,), dynamic_shapes=shapes, strict=False)
        if form == "pt2":
            torch.export.save(program, path, extra_files={"sngd.json": json.dumps(told)})
        else:
            _save_onnx(program, path, told)
    except (RuntimeError, NotImplementedError) as error:
        first = str(error).strip().partition("\n")[0]
        first += "" if torch.__version__ >= _TRACES else f"; a newer torch may, {_TRACES} say"
        raise ValueError(
            f"this network cannot be written as {form} by torch {torch.__version__}: {first}"
        ) from error
    return path


def _save_onnx(program: Any, path: Path, told: dict[str, str]) -> None:
    with _quiet():
        options: Any = {"input_names": ["x"], "output_names": ["fields"], "verbose": False}
        written: Any = torch.onnx.export(program, dynamo=True, **options)
    written.model.metadata_props.update(told)
    written.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter has to say of packages that it can do without, and of its progress."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _optional(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{what} needs the package {name}, which is not installed: pip install 'sngd[export]'"
        ) from error
