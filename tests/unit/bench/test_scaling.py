"""The model of scaling: it finds the constants that made its data, and predicts from them alone."""

import dataclasses

import pytest

from sngd.bench import links
from sngd.bench.definition import LINKS, LOOPBACK, build, jobs_of
from sngd.bench.links import fit_rings, possible
from sngd.bench.projection import project_all
from sngd.bench.scaling import Speeds, fit_speeds, model_of, size_of
from sngd.bench.scaling_report import markdown, points_table
from sngd.bench.suites import SCALING_RANKS, SUITES
from sngd.interconnect import Link, Ring, payload_seconds, sketched_payloads

SUITE = SUITES["scaling"]
JOBS = {job.task: job for job in jobs_of(SUITE, seeds=1, device="cpu")}
SPECS = {task: job.spec for task, job in JOBS.items()}
SPEEDS = Speeds(1.7, 0.6)
CORES = 2
HANDLING = {"all-reduce": 1e-9, "reduce-scatter": 2e-9, "all-gather": 1.5e-9}
RINGS = {
    LOOPBACK: Ring(Link(5e-5, float("inf")), HANDLING, CORES, 1e-3),
    "1gbit": Ring(Link(8e-5, 1.2e8), HANDLING, CORES, 1e-3),
    "100mbit": Ring(Link(9e-5, 1.2e7), HANDLING, CORES, 1e-3),
}


def probes():
    """What collectives would have taken in a world of RINGS."""
    return [
        {
            "link": link,
            "kind": kind,
            "ranks": ranks,
            "bytes": size,
            "seconds": ring.seconds(kind, size, ranks),
        }
        for link, ring in RINGS.items()
        for kind in HANDLING
        for ranks in (2, 4)
        for size in (1, 2**20, 2**22)
    ]


def step_seconds(job, evaluations):
    """Seconds of a step in a world of RINGS and SPEEDS, and its bytes."""
    run = build(job.spec)
    size = size_of(run, job.ranks)
    work = sum(SPEEDS.seconds(size, run.optimizer.rank, evaluations)) * max(1.0, job.ranks / CORES)
    payloads = sketched_payloads(
        size.parameters, run.optimizer.rank, job.ranks, len(run.problem.conditions), evaluations=evaluations
    )
    sent = payload_seconds(payloads, RINGS[job.link], job.ranks)
    return work + sum(sent.values()), sum(p.bytes * p.calls for p in payloads)


def record(job, slower=1.0):
    """The record of a run in that world, so many times slower than it should be."""
    evaluations = 4.0
    seconds, moved = step_seconds(job, evaluations)
    points = sum(job.spec["points"].values())
    traffic = {"sketch": {"calls": 1, "bytes": moved, "seconds": 0.01}} if job.ranks > 1 else {}
    return {
        **{"task": job.task, "ranks": job.ranks, "link": job.link, "points": points, "failure": ""},
        **{"machine": {"cores": CORES}, "steps": 10, "seconds": 10 * seconds},
        "pace": {
            **{"seconds": seconds * slower, "cpu_seconds": seconds},
            **{"evaluations": evaluations, "traffic": traffic},
        },
    }


@pytest.fixture(scope="module")
def model():
    return model_of([record(job) for job in JOBS.values()], SPECS, probes())


def test_the_suite_has_every_link_and_number_of_ranks_and_its_starts_alone():
    several = {(job.task.split()[0], job.ranks, job.link) for job in JOBS.values() if job.ranks > 1}
    assert several == {(how, r, link) for how in ("strong", "weak") for r in SCALING_RANKS for link in LINKS}
    points = {task: sum(job.spec["points"].values()) for task, job in JOBS.items()}
    for job in JOBS.values():
        whole = points[job.task] * (1 if job.task.startswith("strong") else 1 / job.ranks)
        assert whole in points.values(), f"{job.task} has no run on one rank beside it"
    shares = {points[task] // job.ranks for task, job in JOBS.items() if job.task.startswith("strong")}
    assert shares <= {points[task] for task, job in JOBS.items() if job.ranks == 1}


def test_rings_are_found_from_their_collectives():
    found = fit_rings(probes(), CORES)
    for link, ring in RINGS.items():
        assert found[link].link.latency_seconds == pytest.approx(ring.link.latency_seconds, rel=1e-3)
        assert found[link].link.bytes_per_second == pytest.approx(ring.link.bytes_per_second, rel=1e-3)
        assert found[link].handling == pytest.approx(HANDLING, rel=1e-3)
        assert found[link].turn_seconds == pytest.approx(1e-3, rel=1e-3)


def test_more_ranks_than_two_do_not_touch_the_rates():
    twisted = [
        {**p, "seconds": p["seconds"] * (3 if p["ranks"] == 4 and p["bytes"] > 1 else 1)} for p in probes()
    ]
    assert fit_rings(twisted, CORES) == fit_rings(probes(), CORES)


def test_speeds_are_found_from_runs_on_one_rank():
    base = size_of(build(SPECS["alone 1/1"]))
    sizes = [dataclasses.replace(base, rows=base.rows * factor) for factor in (1, 2, 5)]
    found = fit_speeds([(size, 128, 4.0, sum(SPEEDS.seconds(size, 128, 4.0))) for size in sizes])
    assert (found.shared, found.repeated) == pytest.approx((SPEEDS.shared, SPEEDS.repeated))


def test_every_task_of_that_world_is_predicted(model):
    assert {p["task"] for p in model["points"]} == set(JOBS)
    for point in model["points"]:
        assert point["deviation"] == pytest.approx(0.0, abs=5e-3), point["task"]
        assert point["predicted"] == pytest.approx(sum(point["parts"].values()))


def test_predictions_do_not_learn_from_what_they_predict(model):
    slow = [record(job, 1.5 if job.ranks > 1 else 1.0) for job in JOBS.values()]
    other = model_of(slow, SPECS, probes())
    for before, after in zip(model["points"], other["points"], strict=True):
        assert after["predicted"] == before["predicted"]
        assert after["measured"] == pytest.approx(before["measured"] * (1.5 if before["ranks"] > 1 else 1.0))
    page = markdown(other)
    assert "0 of 12 runs on several ranks to within 20%" in page


def test_a_machine_that_was_not_idle_is_told_of(model):
    assert "not idle" not in markdown(model)
    shared = model_of([record(job, 1.25) for job in JOBS.values()], SPECS, probes())
    assert "a rank alone had a processor for 80% of its time" in markdown(shared)


def test_efficiency_is_per_core_and_point(model):
    points = {p["task"]: p for p in model["points"]}
    alone = points["alone 1/1"]["measured"]
    assert points["strong 2 loopback"]["efficiency"] == pytest.approx(
        alone / (2 * points["strong 2 loopback"]["measured"])
    )
    assert points["weak 2 100mbit"]["efficiency"] == pytest.approx(
        alone / points["weak 2 100mbit"]["measured"]
    )
    assert points["weak 4 loopback"]["efficiency"] == pytest.approx(
        4 * alone / (CORES * points["weak 4 loopback"]["measured"])
    )


def test_without_two_runs_alone_or_without_loopback_there_is_no_model():
    records = [record(job) for job in JOBS.values()]
    assert (
        model_of(
            [r for r in records if r["task"] != "alone 1/4" and r["task"] != "alone 1/2"], SPECS, probes()
        )
        is None
    )
    assert model_of(records, SPECS, []) is None


def test_the_page_has_points_parameters_and_projection(model):
    page = markdown({**model, "projection": project_all((8, 16))})
    assert "12 of 12 runs on several ranks to within 20%" in page
    for name in ("1 Gbit/s", "100 Mbit/s", "NVIDIA/nccl-tests", "16 [s]", "sharded, tree"):
        assert name in page
    assert len(points_table(model["points"]).splitlines()) == 2 + len(JOBS)


def test_limited_links_are_left_out_where_they_cannot_be_made(monkeypatch):
    jobs = list(JOBS.values())
    monkeypatch.setattr(links, "obstacle", lambda: "no root")
    kept, why = possible(jobs)
    assert why == "no root"
    assert {job.link for job in kept} == {LOOPBACK}
    assert possible(kept) == (kept, "")
    monkeypatch.setattr(links, "obstacle", lambda: "")
    assert possible(jobs) == (jobs, "")
