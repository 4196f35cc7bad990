"""benchmarks/library.py: what it makes of runs; the runs themselves are tested with the command."""

import json
import math

from benchmarks.library import reached, replace_runs, summarize


def test_medians_and_ranges_over_seeds():
    runs = [{"relative_l2": e, "seconds": s} for e, s in ((3e-6, 5.0), (1e-6, 9.0), (2e-6, 7.0))]
    assert summarize(runs) == {"median": 2e-6, "spread": [1e-6, 3e-6], "seeds": 3, "seconds": 7.0}


def test_a_failed_or_diverged_run_is_the_worst():
    good = [{"relative_l2": e, "seconds": 1.0} for e in (1e-6, 2e-6)]
    for bad in ({"failure": "killed"}, {"relative_l2": math.nan, "seconds": 2.0}):
        summary = summarize([*good, bad])
        assert summary["median"] == 2e-6
        assert summary["spread"] is None
    assert summarize([good[0], {"failure": "killed"}, {"failure": "killed"}]) is None


def test_times_are_those_of_the_first_step_at_an_error():
    history = [
        {"seconds": float(i), "relative_l2": e} for i, e in enumerate((0.5, None, 2e-3, 3e-2, 1e-4), start=1)
    ]
    assert reached(history) == {"1e-1": 3.0, "1e-2": 3.0, "1e-3": 5.0, "1e-4": 5.0}


def test_runs_of_other_configs_stay(tmp_path):
    path = tmp_path / "library.json"
    assert replace_runs(path, "a", [{"config": "a", "seed": 0}]) == [{"config": "a", "seed": 0}]
    path.write_text(json.dumps({"runs": [{"config": "a", "seed": 0}, {"config": "b", "seed": 0}]}))
    found = replace_runs(path, "a", [{"config": "a", "seed": 1}])
    assert found == [{"config": "b", "seed": 0}, {"config": "a", "seed": 1}]
