import numpy as np
import pytest
import torch

from sngd.data import Data, PointCloud
from sngd.domain import Box
from sngd.geometry import Ball

KEY = (7, 3, 1)
DOMAIN = Box(x=(0, 1), t=(0, 2))
X, T = DOMAIN.axes
POINTS = [[0.0, 0.5], [1.0, 2.0], [0.25, 0.0]]
NORMALS = [[-1, 0], [1, 0], [0, -1]]


def data() -> Data:
    return Data(DOMAIN, POINTS, {"u": [1.0, 2.0, 3.0], "v": np.array([[4.0], [5.0], [6.0]])}, NORMALS)


def test_points_keep_their_order_whatever_the_key() -> None:
    region = data()
    assert region.domain is DOMAIN
    assert (region.count, len(region), region.columns) == (3, 3, ("u", "v"))
    whole = torch.tensor([[0.0, 0.5, 1, 4], [1.0, 2.0, 2, 5], [0.25, 0.0, 3, 6]], dtype=torch.float64)
    for key in (KEY, (1, 2, 3)):
        for sampling in ("kronecker", "uniform", "sobol", "latin_hypercube"):
            assert torch.equal(region.sample(0, 3, key, sampling, total=3), whole)
    assert torch.equal(region.sample(1, 3, KEY), whole[1:])
    assert region.sample(2, 2, KEY).shape == (0, 4)
    with pytest.raises(ValueError, match=r"Data\(3 points\) has no point 4; ask for at most 3 points"):
        region.sample(1, 5, KEY)


def test_normals_come_after_the_values() -> None:
    region = data().with_normals()
    assert region.columns == ("u", "v", "normal:x", "normal:t")
    assert torch.equal(region.sample(0, 3, KEY)[:, 4:], torch.tensor(NORMALS, dtype=torch.float64))
    assert data().columns == ("u", "v")
    with pytest.raises(ValueError, match=r"PointCloud\(3 points\) has no normals; give PointCloud"):
        PointCloud(DOMAIN, POINTS).with_normals()


def test_filters_pick_rows() -> None:
    picked = data().where(lambda p: p[X] < 0.5)
    assert (picked.count, picked.columns) == (2, ("u", "v"))
    assert picked.with_normals().sample(0, 2, KEY)[:, 2:].tolist() == [[1, 4, -1, 0], [3, 6, 0, -1]]
    assert picked.where(lambda p: p[T] > 0).sample(0, 1, KEY)[:, 2].tolist() == [1]
    with pytest.raises(ValueError, match="the filter keeps none of its points"):
        picked.where(lambda p: p["x"] > 0.5)
    with pytest.raises(ValueError, match=r"must return a bool tensor of shape \(3,\)"):
        data().where(lambda p: p[X])


def test_arrays_are_copied() -> None:
    points, values = np.array(POINTS), np.ones(3)
    region = Data(DOMAIN, points, {"u": values})
    before = region.sample(0, 3, KEY)
    points += 0.1
    values += 1
    assert torch.equal(region.sample(0, 3, KEY), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_are_taken_whatever_their_precision_and_graph(dtype) -> None:
    x, u = torch.tensor(POINTS, dtype=dtype), torch.ones(3, dtype=dtype, requires_grad=True)
    region = Data(DOMAIN, x, {"u": 2 * u})
    sample = region.sample(0, 3, KEY)
    assert sample.tolist() == [[*point, 2] for point in POINTS]
    assert not sample.requires_grad
    exact = x.double().clone()
    x += 0.1
    assert torch.equal(region.sample(0, 3, KEY)[:, :2], exact)


def test_points_of_the_boundary_may_be_rounded_outside() -> None:
    disk = Ball(x=0, y=0, radius=1)
    angle = np.linspace(0, 6, 50)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    cloud = PointCloud(disk, circle, normals=circle)
    assert cloud.with_normals().sample(0, 50, KEY).shape == (50, 4)
    with pytest.raises(ValueError, match=r"PointCloud points: row 0, 1, 2, 3, 4 and 45 more lies"):
        PointCloud(disk, 1.01 * circle)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data(DOMAIN, POINTS, {}), "Data values is empty"),
        (lambda: Data(DOMAIN, POINTS, {"u": [1, 2]}), r"values\['u'\] has 2 rows, points has 3"),
        (
            lambda: Data(DOMAIN, POINTS, {"u": np.ones((3, 2))}),
            r"has shape \(3, 2\), it must be",
        ),
        (lambda: Data(DOMAIN, POINTS, {"u": [1, np.nan, 3]}), r"Data values\['u'\]: row 1 is not finite"),
        (lambda: Data(DOMAIN, POINTS, {"u": ["a", 1, 2]}), r"values\['u'\] must be an array of numbers"),
        (
            lambda: Data(DOMAIN, POINTS, {"u": [1j, 2, 3]}),
            r"values\['u'\] must be an array of numbers: .*complex",
        ),
        (
            lambda: Data(DOMAIN, torch.ones(1, 2) * 1j, {"u": [1]}),
            "points must be an array of numbers: .*complex",
        ),
        (lambda: Data(DOMAIN, POINTS, [1, 2, 3]), "Data values must map names to arrays, .* not list"),
        (lambda: Data(DOMAIN, POINTS, {"x": [1, 2, 3]}), r"values\['x'\] must not be called as an axis"),
        (lambda: Data(DOMAIN, POINTS, {"normal:x": [1, 2, 3]}), "nor have a colon"),
        (lambda: Data(DOMAIN, [], {"u": []}), r"Data points has shape \(0,\), it must be \(n, 2\)"),
        (lambda: PointCloud(DOMAIN, np.ones((0, 2))), "PointCloud points is empty"),
        (lambda: PointCloud(DOMAIN, np.ones((3, 3))), r"points has shape \(3, 3\), it must be \(n, 2\)"),
        (lambda: PointCloud(DOMAIN, [[0, np.inf]]), "PointCloud points: row 0 is not finite"),
        (lambda: PointCloud(DOMAIN, [[0, 1], [0, 3]]), r"row 1 lies outside of the domain Box.*at \(0, 3\)"),
        (lambda: PointCloud(DOMAIN, POINTS, [[1, 0]]), "PointCloud normals has 1 rows, points has 3"),
        (lambda: PointCloud(DOMAIN, [[0, 1]], [[2, 0]]), "PointCloud normals: row 0 is not of length 1"),
    ],
)
def test_bad_arrays_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------


def test_tables_are_matched_by_name(tmp_path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("u, t,x,noise\n1,0.5,0,9\n\n2,2.0,1e0,8\n", encoding="utf-8-sig")
    region = Data.from_csv(DOMAIN, path)
    assert region.columns == ("u", "noise")
    assert region.sample(0, 2, KEY).tolist() == [[0, 0.5, 1, 9], [1, 2, 2, 8]]
    for values in (["noise"], "noise"):
        assert Data.from_csv(DOMAIN, str(path), values=values).columns == ("noise",)


def test_archives_are_matched_by_name(tmp_path) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, u=np.array([1, 2]), t=np.array([0.5, 2]), x=np.array([0, 1], dtype=np.float32))
    region = Data.from_npz(DOMAIN, path)
    assert region.columns == ("u",)
    assert region.sample(0, 2, KEY).tolist() == [[0, 0.5, 1], [1, 2, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it must have a header line and rows"),
        ("x,t,u\n", "is empty: it must have a header line and rows"),
        ("x,u\n0,1\n", "has no column 't'; it has x, u, and the axes are x, t"),
        ("x,t\n0,1\n", "has no columns but the axes: no values"),
        ("x,t,u,u\n0,1,1,1\n", r"columns \['u'\] appear more than once"),
        ("x,t,u\n0,1,1\n0,1\n", "line 3: 2 entries, the header has 3"),
        ("x,t,u\n0,1,1\n\n0,1,nan\n", "column 'u', line 4: 'nan' must be a finite number"),
        ("x,t,u\n0,one,1\n", "column 't', line 2: 'one' must be a finite number"),
        ("x,t,u\n0,1,1\n0,9,1\n", "Data points: row 1 lies outside of the domain"),
    ],
)
def test_bad_tables_are_refused(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        Data.from_csv(DOMAIN, path)
    assert f"data file {str(path)!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": [0.0], "u": [1.0]}, "has no column 't'"),
        ({"x": [0.0], "t": [1.0]}, "no values"),
        (
            {"x": [0.0], "t": [1.0, 2.0], "u": [1.0]},
            r"'t': float64 of shape \(2,\) must be real numbers",
        ),
        ({"x": [[0.0]], "t": [1.0], "u": [1.0]}, r"array 'x': float64 of shape \(1, 1\)"),
        ({"x": [0.0], "t": [1.0], "u": ["a"]}, "array 'u': <U1"),
        ({"x": 0.0, "t": 1.0, "u": 1.0}, r"array 'x': float64 of shape \(\)"),
        ({"x": [0.0, 1], "t": [1.0, 1], "u": [1.0, np.inf]}, r"Data values\['u'\]: row 1 is not finite"),
        ({"x": [], "t": [], "u": []}, "Data points is empty"),
    ],
)
def test_bad_archives_are_refused(tmp_path, arrays: dict, message: str) -> None:
    path = tmp_path / "m.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        Data.from_npz(DOMAIN, path)
    assert f"data file {str(path)!r}" in str(caught.value)


def test_files_that_cannot_be_read_are_refused(tmp_path) -> None:
    missing = tmp_path / "none.csv"
    for read in (Data.from_csv, Data.from_npz):
        with pytest.raises(ValueError, match=r"none\.csv' cannot be read: .*No such file"):
            read(DOMAIN, missing)
    path = tmp_path / "m.npy"
    np.save(path, np.ones(3))
    with pytest.raises(ValueError, match="it holds one array without a name"):
        Data.from_npz(DOMAIN, path)
    path.write_bytes(b"\xff\xfe no text")
    for read in (Data.from_csv, Data.from_npz):
        with pytest.raises(ValueError, match=r"m\.npy' cannot be read"):
            read(DOMAIN, path)
    good = tmp_path / "m.csv"
    good.write_text("x,t,u\n0,1,1\n")
    with pytest.raises(ValueError, match="has no column 'w'; it has x, t, u"):
        Data.from_csv(DOMAIN, good, values=["w"])
