"""What the suites hold. Another problem, optimizer or suite is a line here."""

from __future__ import annotations

from sngd.bench.definition import LINKS, LOOPBACK, Entry, Suite, Task
from sngd.networks import MLP

__all__ = ["SUITES"]

# Most comparisons with the known solution cost as much as some steps of these: they come every so many steps.
_OFTEN = {"evaluate_every": 20}
_NOW_AND_THEN = {"evaluate_every": 5}

# name: problem, its points, network, budget in seconds, target error, more fields of RunConfig
TASKS = {
    "heat": Task("heat", {"interior": 1200, "initial": 80, "walls": 160}, MLP((24, 24, 24)), 20, 1e-9),
    "poisson2d": Task("poisson2d", {"interior": 1200, "boundary": 240}, MLP((24, 24, 24)), 25, 1e-9),
    "poisson2d-5081": Task("poisson2d", {"interior": 2000, "boundary": 400}, MLP((40,) * 4), 25, 1e-9),
    "burgers": Task(
        "burgers", {"interior": 8192, "initial": 2048}, MLP((20,) * 4), 80, 1e-8, {"balance": True}
    ),
    "transport": Task(
        "transport", {"interior": 2048, "initial": 512}, MLP((24, 24, 24)), 90, 1e-5, {"resample_every": 1}
    ),
    "nonlinear": Task("nonlinear", {"interior": 512, "boundary": 64}, MLP((24, 24, 24)), 20, 1e-10),
    "poisson5d": Task(
        "poisson5d",
        {"interior": 3000, "boundary": 500},
        # points, network and initial values of the published runs (arXiv 2505.12149), and their best settings
        MLP((64, 64, 48, 48), initialization="torch"),
        250,
        1e-7,
        {"resample_every": 1},
        tuned={
            "engd-damped": {"fixed_damping": 1e-8},
            "engd-w": {"fixed_damping": 3.1732e-12},
            "spring": {"fixed_damping": 2.0863e-10, "momentum": 0.06327},
        },
    ),
}

# label: optimizer, settings, form, more fields of RunConfig
ENTRIES = {
    "sngd": Entry("sngd", form="sketched"),
    # as published
    "sngd-ls": Entry(
        "sngd",
        {"globalization": "line_search", "test_matrix": "gaussian", "recycle": False},
        form="sketched",
    ),
    "engd": Entry("engd", form="exact"),
    "engd-damped": Entry("engd", {"fixed_damping": 1e-12}, form="exact"),
    "engd-tr": Entry("engd", {"globalization": "trust_region"}, form="exact"),
    "engd-w": Entry("engd-w", form="kernel"),
    "engd-w-tr": Entry("engd-w", {"globalization": "trust_region"}, form="kernel"),
    "spring": Entry("spring", form="kernel"),
    "adam": Entry("adam", run=_OFTEN),
    "lbfgs": Entry("lbfgs", run=_NOW_AND_THEN),
    # Adam goes first, as published
    "ssbroyden": Entry("ssbroyden", run={**_NOW_AND_THEN, "warmup_steps": 500}),
    "soap": Entry("soap", run=_OFTEN),
    "auto": Entry("auto"),
}


def _tasks(*names: str, seconds: float | None = None) -> dict[str, Task]:
    """Tasks by name, with another budget where one is given."""
    chosen = {name: TASKS[name] for name in names}
    if seconds is None:
        return chosen
    return {name: Task(**{**vars(task), "seconds": seconds}) for name, task in chosen.items()}


def _entries(*labels: str) -> dict[str, Entry]:
    return {label: ENTRIES[label] for label in labels}


# ---------------------------------------------------------------------------------------------
# crossover: N × P
# ---------------------------------------------------------------------------------------------

# Residual rows, a sixth of them on the boundary.
GRID_POINTS = (500, 1000, 2000, 5000, 20_000)
# Width of three hidden layers: P = 2w² + 6w + 1 = 477, 1,981, 4,897, 19,797.
GRID_WIDTHS = (14, 30, 48, 98)
GRID_SECONDS, GRID_TARGET = 25.0, 1e-4


def _grid() -> dict[str, Task]:
    tasks = {}
    for points in GRID_POINTS:
        for width in GRID_WIDTHS:
            split = {"interior": points - points // 6, "boundary": points // 6}
            parameters = 2 * width**2 + 6 * width + 1
            network = MLP((width,) * 3)
            name = f"N={points} P={parameters}"
            tasks[name] = Task("poisson2d", split, network, GRID_SECONDS, GRID_TARGET)
    return tasks


# ---------------------------------------------------------------------------------------------
# scaling: local ranks
# ---------------------------------------------------------------------------------------------

SCALING_RANKS = (2, 4)
SCALING_POINTS, SCALING_SKETCH, SCALING_STEPS = 8192, 128, 10


def _scaling() -> dict[str, Task]:
    """One rank on shares of the points, for the speed of a process; then several, over every link."""
    tasks = {}
    for share in (1, *SCALING_RANKS):
        tasks[f"alone 1/{share}"] = _scaled(SCALING_POINTS // share, 1, LOOPBACK)
    for link in LINKS:
        for ranks in SCALING_RANKS:
            tasks[f"strong {ranks} {link}"] = _scaled(SCALING_POINTS, ranks, link)
            tasks[f"weak {ranks} {link}"] = _scaled(SCALING_POINTS * ranks, ranks, link)
    return tasks


def _scaled(points: int, ranks: int, link: str) -> Task:
    return Task(
        "burgers",
        {"interior": points, "initial": points // 4},
        MLP((20,) * 4),
        60,
        1e-12,
        {"balance": True, "max_steps": SCALING_STEPS, "evaluate_every": SCALING_STEPS},
        ranks,
        link,
        # few corrections, so that steps differ little in how many they take
        tuned={"sngd": {"rank": SCALING_SKETCH, "adaptive_rank": False, "corrections": 3}},
    )


SUITES = {
    "quick": Suite(
        "Two small problems, ten seconds a run: a look at everything in five minutes.",
        _tasks("heat", "poisson2d", seconds=10),
        _entries("sngd", "sngd-ls", "engd-w", "adam", "lbfgs"),
        seeds=2,
    ),
    "targets": Suite(
        "Time to each accuracy of the configs.",
        _tasks("heat", "poisson2d", "poisson2d-5081", "burgers", "transport", "nonlinear"),
        _entries("sngd"),
        seeds=5,
    ),
    "paper": Suite(
        "The source paper's problems: this step against the published rule and the exact Gramian.",
        _tasks("heat", "poisson2d", "nonlinear", "transport"),
        _entries("sngd", "sngd-ls", "engd"),
        seeds=5,
    ),
    "rivals": Suite(
        "Every optimizer on the same networks and points; -tr has our trust region and chord corrections.",
        _tasks("heat", "poisson2d", "burgers", "poisson5d"),
        _entries(
            *("sngd", "auto", "engd", "engd-damped", "engd-tr", "engd-w", "engd-w-tr", "spring"),
            *("adam", "soap", "lbfgs", "ssbroyden"),
        ),
        seeds=3,
    ),
    "crossover": Suite(
        "Exact, kernel and sketched form under the same trust region, over N rows and P parameters.",
        _grid(),
        _entries("sngd", "engd-tr", "engd-w-tr", "auto"),
        seeds=1,
        kind="map",
    ),
    "scaling": Suite(
        "Burgers on 1, 2 and 4 local ranks of one thread, over loopback and over limited links: the same "
        "points shared out (strong), or so many more of them (weak); beside it what a model predicts.",
        _scaling(),
        _entries("sngd"),
        seeds=2,
        kind="scaling",
    ),
}
