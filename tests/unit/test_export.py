"""Fields and networks in files, read back by other means."""

from __future__ import annotations

import importlib
import io
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from sngd.coefficient import Coefficient
from sngd.composite import build_network
from sngd.condition import Condition
from sngd.domain import Box
from sngd.evaluate import predict
from sngd.export import Sampled, default_counts, export_fields, export_network, read_points
from sngd.fields import coefficient_values
from sngd.networks import MLP, SIREN
from sngd.problem import Problem
from tests.pictures import Ring, build

traces = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 traces nothing that is vmapped")

NAMES = ("x", "y")


def plane(solved: bool = True, domain: Box | None = None):
    solution = lambda p: (p.values[:, 0] * p.values[:, 1], p.values[:, 1] + 1)  # noqa: E731
    return build(domain or Box(x=(0, 2), y=(-1, 1)), solution if solved else None, ("u", "v"))


# Where


def test_a_grid_covers_the_domain_and_holds_axes_of_one_point_in_the_middle():
    problem, _ = build(Box(x=(0, 2), y=(-1, 1), z=(4, 6)), None)
    where = Sampled.grid(problem, (3, 1, 2))
    assert where.shape == (3, 1, 2)
    assert where.points.tolist() == [[x, 0, z] for x in (0, 1, 2) for z in (4, 6)]
    assert [default_counts(d) for d in (1, 2, 3, 5)] == [(1001,), (101,) * 2, (51,) * 3, (51, 51, 51, 1, 1)]
    for counts, told in (((3, 3), "3x3"), ((3, 0, 3), "3x0x3")):
        with pytest.raises(
            ValueError, match=rf"grid={told} must be 3 whole numbers ≥ 1, one for each of x, y, z"
        ):
            Sampled.grid(problem, counts)


def test_points_are_read_from_text_and_arrays(tmp_path):
    expected = np.array([[0.5, -1.0], [1.5, 0.25], [2.0, 1e-3]])
    np.save(tmp_path / "p.npy", expected)
    np.savez(tmp_path / "p.npz", y=expected[:, 1], x=expected[:, 0], other=3)
    (tmp_path / "plain.csv").write_text("0.5,-1\n1.5, 0.25\n2,1e-3\n")
    (tmp_path / "headed.csv").write_text("y,weight,x\n-1,7,0.5\n0.25,7,1.5\n1e-3,7,2\n")
    (tmp_path / "one.csv").write_text("0.5,-1\n")
    for name in ("p.npy", "p.npz", "plain.csv", "headed.csv"):
        where = read_points(tmp_path / name, NAMES)
        assert where.points.tolist() == expected.tolist(), name
        assert where.shape == (3,)
    assert read_points(tmp_path / "one.csv", NAMES).points.tolist() == [[0.5, -1.0]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,2,3\n", r"it holds \(1, 3\)"),
        ("1,nan\n", "finite"),
        ("a,b\n1,2\n", "cannot be read"),
        (None, "cannot"),
    ],
)
def test_points_that_do_not_fit_are_refused(tmp_path, text, told):
    path = tmp_path / "p.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"points file .*p.csv.*{told}"):
        read_points(path, NAMES)


def _half(stream):
    whole = io.BytesIO()
    np.savez(whole, x=np.zeros(3), y=np.zeros(3))
    stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("p.npy", lambda stream: None, "cannot be read"),
        ("p.npz", _half, "cannot be read"),
        ("p.npz", lambda stream: np.save(stream, np.zeros((3, 2))), "cannot be read"),
        ("p.npy", lambda stream: np.savez(stream, x=np.zeros(3)), "it holds a NpzFile"),
        ("p.npy", lambda stream: np.save(stream, np.array([["a", "b"]])), "it holds <U1"),
        ("p.npy", lambda stream: np.save(stream, np.zeros((1, 2), complex)), "it holds complex128"),
        ("p.npy", lambda stream: np.save(stream, np.zeros((0, 2))), r"it holds \(0, 2\)"),
    ],
)
def test_files_that_hold_no_points_are_refused(tmp_path, name, write, told):
    with (tmp_path / name).open("wb") as stream:
        write(stream)
    with pytest.raises(ValueError, match=f"points file .*{name}.*{told}"):
        read_points(tmp_path / name, NAMES)


# Fields


def test_npz_holds_axes_fields_solution_and_error(tmp_path):
    problem, network = plane()
    where = Sampled.grid(problem, (5, 3))
    path = export_fields(problem, network, network.initial, where, tmp_path / "odd.name")
    assert path.name == "odd.name"
    with np.load(path) as stored:
        assert set(stored) == {"x", "y", "u", "v", "u_solution", "v_solution", "u_error", "v_error"}
        x, y = np.meshgrid(stored["x"], stored["y"], indexing="ij")
        points = torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1))
        u = predict(problem, network, network.initial, points).numpy()
        assert stored["x"].tolist() == [0, 0.5, 1, 1.5, 2]
        assert stored["u"].shape == (5, 3)
        assert stored["v"].ravel() == pytest.approx(u[:, 1])
        assert stored["u_solution"] == pytest.approx(x * y)
        assert stored["v_error"] == pytest.approx(u[:, 1].reshape(5, 3) - y - 1)


def test_npz_at_points_without_a_solution(tmp_path):
    problem, network = plane(solved=False)
    where = Sampled(torch.tensor([[0.5, 0.25], [1.0, -1.0], [9.0, 9.0]], dtype=torch.float64))
    path = export_fields(problem, network, network.initial, where, tmp_path / "p.npz")
    with np.load(path) as stored:
        assert set(stored) == {"x", "y", "u", "v"}
        assert stored["y"].tolist() == [0.25, -1.0, 9.0]
        assert stored["u"][:2] == pytest.approx(network(network.initial, where.points)[:2, 0].numpy())
        assert np.isnan(stored["u"][2]), "a point outside of the domain"


def test_a_field_named_like_a_coordinate_is_refused(tmp_path):
    problem, network = build(Box(x=(0, 1)), None, ("x",))
    with pytest.raises(ValueError, match=r"fields \['x'\] are named like coordinates"):
        export_fields(problem, network, network.initial, Sampled.grid(problem, (3,)), tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("counts", "kind", "cells", "volume"),
    [((5, 1, 1), "line", 4, 2.0), ((5, 1, 4), "quad", 12, 2.0), ((5, 3, 4), "hexahedron", 24, 4.0)],
)
def test_a_mesh_is_read_back(tmp_path, counts, kind, cells, volume):
    meshio = pytest.importorskip("meshio")
    problem, network = build(Box(x=(0, 2), y=(-1, 1), z=(0, 1)), lambda p: p.values.sum(1))
    where = Sampled.grid(problem, counts)
    path = export_fields(problem, network, network.initial, where, tmp_path / "m.vtu", "vtk")
    mesh = meshio.read(path)
    (block,) = mesh.cells
    assert (block.type, len(block.data)) == (kind, cells)
    free = [i for i, n in enumerate(counts) if n > 1]
    assert mesh.points[:, : len(free)] == pytest.approx(where.points[:, free].numpy())
    u = predict(problem, network, network.initial, where.points)[:, 0].numpy()
    assert mesh.point_data["u"] == pytest.approx(u)
    assert mesh.point_data["u_error"] == pytest.approx(u - where.points.sum(1).numpy())
    corners = mesh.points[block.data]
    assert np.prod(np.ptp(corners[..., : len(free)], axis=1), axis=1).sum() == pytest.approx(volume)
    if kind != "line":  # neighbours in VTK's order share an edge: one coordinate differs
        steps = corners[:, [1, 2, 3, 0]] - corners[:, :4]
        assert ((np.abs(steps) > 1e-12).sum(axis=2) == 1).all()


def test_cells_that_reach_out_of_the_domain_are_left_out(tmp_path):
    meshio = pytest.importorskip("meshio")
    problem, network = plane(domain=Ring(x=(0, 1), y=(0, 1)))
    where = Sampled.grid(problem, (21, 21))
    mesh = meshio.read(export_fields(problem, network, network.initial, where, tmp_path / "m.vtu", "vtk"))
    inside = problem.domain.contains(where.points).numpy()
    (block,) = mesh.cells
    whole = inside.reshape(21, 21)
    expected = whole[1:, 1:] & whole[:-1, 1:] & whole[1:, :-1] & whole[:-1, :-1]
    assert len(block.data) == expected.sum() > 50
    assert np.isfinite(mesh.point_data["u"][block.data]).all()


def test_points_are_a_cloud_in_a_mesh(tmp_path):
    meshio = pytest.importorskip("meshio")
    problem, network = plane()
    where = Sampled(torch.tensor([[0.5, 0.25], [1.0, -1.0]], dtype=torch.float64))
    mesh = meshio.read(export_fields(problem, network, network.initial, where, tmp_path / "m.vtu", "vtk"))
    assert mesh.cells[0].type == "vertex"
    assert mesh.point_data["v_solution"] == pytest.approx([1.25, 0.0])


def test_a_mesh_has_three_coordinates_at_most(tmp_path):
    pytest.importorskip("meshio")
    problem, network = build(Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1)), None)
    where = Sampled.grid(problem, (2, 2, 2, 2))
    with pytest.raises(ValueError, match="at most 3 coordinates, these points have 4: hold some"):
        export_fields(problem, network, network.initial, where, tmp_path / "m.vtu", "vtk")


# Networks


def reads(path: Path):
    """The fields of a network's file at points (n, d), by a reader that knows nothing of this package."""
    if path.suffix == ".pt2":
        module = torch.export.load(path).module()
        return lambda x: module(x).detach()
    runner = importlib.import_module("onnx.reference").ReferenceEvaluator(str(path))
    return lambda x: torch.from_numpy(runner.run(None, {"x": x.numpy()})[0])


PERIODIC = (Box(x=(-1, 1), t=(0, 1), periodic="x"), MLP((7, 6)), ("u", "v"))
SINE = (Box(x=(0, 1), y=(0, 1), z=(0, 1)), SIREN((6, 5)), ("u",))


@traces
def test_an_ansatz_and_coefficients_belong_to_the_fields(tmp_path):
    domain = Box(x=(0, 1), y=(0, 1))
    X, Y = domain.axes
    problem = Problem(
        domain,
        [Condition("c", lambda w, p: w[0] * p["kappa"], domain.interior, points=4)],
        fields=("u", "v"),
        coefficients={"kappa": Coefficient(2.0, lower=0.0), "c": 3.0},
        ansatz=lambda n, p: (p[X] * (1 - p[X]) * n[0] + p["kappa"], p["c"] * torch.sin(p[Y]) + n[1]),
    )
    network = build_network(problem, MLP((5,)), seed=1)
    theta = network.initial + 0.1
    x = domain.interior.sample(0, 9, (1, 2, 3))
    found = reads(export_network(problem, network, theta, tmp_path / "n.pt2"))(x)
    torch.testing.assert_close(found, predict(problem, network, theta, x), rtol=1e-12, atol=1e-12)
    ends = torch.tensor([[0.0, 0.3], [1.0, 0.9]], dtype=torch.float64)
    kappa = coefficient_values(problem, theta)["kappa"]
    values = reads(tmp_path / "n.pt2")(ends)[:, 0]
    assert kappa != 2.0
    torch.testing.assert_close(values, torch.full_like(values, kappa), rtol=1e-12, atol=1e-12)


@traces
@pytest.mark.parametrize(("case", "form"), [(PERIODIC, "pt2"), (SINE, "pt2"), (PERIODIC, "onnx")])
def test_a_network_that_is_read_back_gives_the_same_fields(tmp_path, case, form):
    if form == "onnx":
        pytest.importorskip("onnxscript")
    domain, config, fields = case
    problem, _ = build(domain, None, fields)
    network = config.build(domain, len(fields), seed=2)
    theta = network.initial + 0.1
    path = export_network(problem, network, theta, tmp_path / f"n.{form}", form)
    found = reads(path)
    for count in (1, 2, 50):
        x = domain.interior.sample(0, count, (1, 2, 3))
        torch.testing.assert_close(found(x), network(theta, x), rtol=1e-12, atol=1e-12)
    told = {"coordinates": ",".join(domain.names), "fields": ",".join(fields)}
    if form == "onnx":
        model = importlib.import_module("onnx").load(path)
        assert {p.key: p.value for p in model.metadata_props}.items() >= told.items()
    else:
        files = {"sngd.json": ""}
        torch.export.load(path, extra_files=files)
        assert json.loads(files["sngd.json"]) == told


@traces
def test_float32_stays_so(tmp_path):
    problem, network = plane()
    network, theta = network.to(torch.float32, "cpu"), network.initial.float()
    found = reads(export_network(problem, network, theta, tmp_path / "n.pt2"))
    x = torch.rand(5, 2)
    torch.testing.assert_close(found(x), network(theta, x))


@pytest.mark.parametrize(("package", "form"), [("meshio", "vtk"), ("onnx", "onnx"), ("onnxscript", "onnx")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package, form):
    for name in ("onnx", "onnxscript", "meshio"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    problem, network = plane()
    write = {
        "onnx": partial(export_network, problem, network, network.initial),
        "vtk": partial(export_fields, problem, network, network.initial, Sampled.grid(problem, (2, 2))),
    }[form]
    with pytest.raises(ValueError, match=rf"needs the package {package}, .* pip install 'sngd\[export\]'"):
        write(tmp_path / "file", form)
    assert not list(tmp_path.iterdir())
