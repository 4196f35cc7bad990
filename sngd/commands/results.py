"""`sngd plot`, `sngd export`: pictures and files of a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path

from sngd.audience import PICTURES, draw
from sngd.commands.common import restore, result_parser
from sngd.export import FORMATS, Sampled, default_counts, export_fields, export_network, read_points
from sngd.flags import Parser
from sngd.problem import Problem

__all__ = ["export", "export_parser", "plot", "plot_parser"]

# Of a grid's points along an axis.
_DIGITS = 9


def plot_parser() -> Parser:
    """The parser of `sngd plot`."""
    parser = result_parser(
        "plot",
        "Draw a finished run into its folder: the fields beside the solution and the error, convergence, the "
        "spectrum, slices, the error over time, collocation points, unknown coefficients.",
        {
            "plot runs/heat-20261124-101500": "all pictures that apply",
            "plot runs/heat-20261124-101500 --what fields,slices --format pdf": "two of them, for paper",
        },
    )
    parser.add_argument(
        "--what",
        metavar="NAMES",
        help=f"which pictures, separated by commas: {', '.join(PICTURES)}; default: all that apply",
    )
    parser.add_argument("--format", default="png", choices=["png", "pdf"], help="of the files (default png)")
    parser.add_argument("--dpi", type=int, default=150, metavar="N", help="dots per inch (default 150)")
    return parser


def plot(given: list[str]) -> int:
    """The command `sngd plot`."""
    options = plot_parser().parse_args(given)
    kinds = ", ".join(PICTURES)
    what = list(PICTURES) if options.what is None else options.what.split(",")
    if unknown := [name for name in what if name not in PICTURES]:
        raise ValueError(f"--what={options.what}: there is no picture {unknown[0]!r}, there are {kinds}")
    if not 20 <= options.dpi <= 1200:
        raise ValueError(f"--dpi={options.dpi} must be between 20 and 1200")
    run, network, theta = restore(options.run, options.checkpoint)
    drawn = draw(run, network, theta, options.run, what, options.format, options.dpi)
    for picture in drawn:
        print(picture)
    if not drawn:
        raise ValueError(f"--what={options.what}: this run has nothing to draw of that")
    return 0


def export_parser() -> Parser:
    """The parser of `sngd export`."""
    parser = result_parser(
        "export",
        "Write a finished run's fields on a grid or at points (npz, vtk), or its network (pt2: a program of "
        "torch.export, which takes the place of TorchScript; onnx). vtk and onnx need sngd[export].",
        {
            "export runs/heat-20261124-101500 --grid 101x101": "fields.npz in the run folder",
            "export runs/heat-20261124-101500 -o heat.vtu": "fields for ParaView",
            "export runs/heat-20261124-101500 --format onnx": "network.onnx in the run folder",
        },
    )
    add = parser.add_argument
    add("--format", choices=list(FORMATS), help="default: by the suffix of FILE, or else npz")
    add("--grid", metavar="NxN", help="points along every axis, e.g. 101x101; 1 holds an axis in the middle")
    add("--points", type=Path, metavar="FILE", help="a column for each coordinate: .csv, .npy or .npz")
    add("-o", "--output", type=Path, metavar="FILE", help="default: fields or network, in the run folder")
    return parser


def export(given: list[str]) -> int:
    """The command `sngd export`."""
    options = export_parser().parse_args(given)
    form = options.format or _form_of(options.output)
    if options.grid is not None and options.points is not None:
        raise ValueError("--grid and --points exclude each other: fields are written on one or the other")
    fields = form in ("npz", "vtk")
    if not fields and (options.grid or options.points):
        raise ValueError(
            f"--format={form} writes the network, which takes any points: leave --grid, --points out"
        )
    run, network, theta = restore(options.run, options.checkpoint)
    path = options.output or options.run / f"{'fields' if fields else 'network'}{FORMATS[form]}"
    if not path.absolute().parent.is_dir():
        raise ValueError(f"--output={str(path)!r} cannot be written: its folder does not exist")
    where = _where(options, run.problem) if fields else None
    try:
        if where is not None:
            export_fields(run.problem, network, theta, where, path, form)
        else:
            export_network(run.problem, network, theta, path, form)
    except OSError as error:
        raise ValueError(f"--output={str(path)!r} cannot be written: {error.strerror or error}") from error
    print(path)
    return 0


def _form_of(path: Path | None) -> str:
    if path is None:
        return "npz"
    for form, suffix in FORMATS.items():
        if path.suffix == suffix:
            return form
    known = ", ".join(FORMATS.values())
    raise ValueError(f"--output={str(path)!r} has none of the suffixes {known}: name one by --format")


def _where(options: argparse.Namespace, problem: Problem) -> Sampled:
    if options.points is not None:
        return read_points(options.points, problem.domain.names)
    if options.grid is None:
        return Sampled.grid(problem, default_counts(problem.domain.dim))
    words = options.grid.split("x")
    if not all(word.isdecimal() and len(word) <= _DIGITS for word in words):
        raise ValueError(f"--grid={options.grid:.99} must be whole numbers with x between them, e.g. 101x101")
    return Sampled.grid(problem, [int(word) for word in words])
