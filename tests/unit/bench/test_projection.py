"""The projection to GPUs: every part moves as it must."""

import pytest

from sngd.bench.projection import GPUS, PROBLEMS, SOURCES, Layout, project, project_all

REPLICATED, SHARDED, TREE = Layout(False, False), Layout(True, False), Layout(True, True)


def test_every_rate_names_its_source():
    assert all(value > 0 and about and where for value, about, where in SOURCES.values())


def test_rows_are_shared_out_and_repeated_work_is_not():
    few, many = (project(PROBLEMS["strong"], ranks, REPLICATED).parts for ranks in (8, 512))
    assert many["rows"] == pytest.approx(few["rows"] / 64)
    assert many["factorisations"] >= few["factorisations"]
    few, many = (project(PROBLEMS["weak"], ranks, REPLICATED).parts for ranks in (8, 512))
    assert many["rows"] == pytest.approx(few["rows"])


def test_gathered_triangles_grow_with_ranks_and_a_tree_with_their_logarithm():
    flat = [project(PROBLEMS["weak"], ranks, SHARDED) for ranks in GPUS]
    tree = [project(PROBLEMS["weak"], ranks, TREE) for ranks in GPUS]
    assert flat[-1].gathered_bytes == pytest.approx(128 * flat[0].gathered_bytes)
    assert tree[-1].gathered_bytes == pytest.approx(tree[0].gathered_bytes)
    assert flat[-1].parts["triangles"] > 10 * flat[1].parts["triangles"]
    assert tree[-1].parts["triangles"] < 3 * tree[1].parts["triangles"]
    assert tree[-1].seconds < flat[-1].seconds


def test_sharding_shares_out_the_orthonormalisation():
    whole, shared = (project(PROBLEMS["strong"], 64, layout).parts for layout in (REPLICATED, SHARDED))
    assert shared["factorisations"] < whole["factorisations"] / 4
    assert shared["sketch"] == pytest.approx(whole["sketch"], rel=0.1), "an all-reduce is its two halves"


def test_every_problem_is_there_in_every_layout():
    rows = project_all((8, 16))
    assert len(rows) == len(PROBLEMS) * 3 * 2
    assert all(row["seconds"] == pytest.approx(sum(row["parts"].values())) for row in rows)
