"""Where two configs differ: what is told, and what older versions did not write."""

import dataclasses
import json

import pytest

from sngd import MLP, RAD, SIREN, SNGD, Adam, Box, Causal, Condition, Marching, Problem, RunConfig, d
from sngd.config import describe
from sngd.differences import differences

SPACE = Box(x=(-1, 1), t=(0, 1))
X, T = SPACE.axes


def _equation(u, p):
    return d(u, T) + p[X] * d(u, X)


def _problem(domain=SPACE, names=("inside", "start"), points=(40, 10), **coefficients):
    regions = (domain.interior, domain.face(t=0))
    conditions = [
        Condition(name, _equation, region, points=count)
        for name, region, count in zip(names, regions, points, strict=True)
    ]
    return Problem(domain, conditions, coefficients=coefficients, name="transport")


def _run(problem=None, **changes):
    fields = {"network": MLP((4, 4)), "optimizer": SNGD(rank=8), "causal": Causal(bins=4)}
    return RunConfig(problem or _problem(), **{**fields, **changes})


BEFORE = _run()
CHANGES = {
    "a field": (_run(seed=3), ["seed was 0, now is 3"]),
    "fields of fields": (
        _run(optimizer=SNGD(rank=9, recycle=False), causal=Causal(bins=5)),
        [
            "optimizer.rank was 8, now is 9",
            "optimizer.recycle was True, now is False",
            "causal.bins was 4, now is 5",
        ],
    ),
    "another optimizer": (_run(optimizer=Adam()), ["optimizer was 'SNGD', now is 'Adam'"]),
    "another network": (_run(network=SIREN((4, 4))), ["network was 'MLP', now is 'SIREN'"]),
    "points": (
        _run(_problem(points=(40, 11))),
        ["problem.conditions.start.points was 10, now is 11"],
    ),
    "another condition": (
        _run(_problem(names=("inside", "begin"))),
        ["problem.conditions was 'inside, start', now is 'inside, begin'"],
    ),
    "a coefficient": (_run(_problem(k=1.0)), ["problem.coefficients was {}, now is 'k'"]),
    "something less": (_run(causal=None), ["causal was 'Causal', now is None"]),
    "something more": (_run(marching=Marching(slabs=2)), ["marching was None, now is 'Marching'"]),
    "nothing": (_run(), []),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_difference_is_told_once(what):
    run, expected = CHANGES[what]
    assert differences(describe(BEFORE), run) == expected
    assert differences(json.loads(json.dumps(describe(BEFORE))), run) == expected


def test_of_a_long_value_the_place_is_told():
    (told,) = differences(describe(BEFORE), _run(_problem(Box(x=(-1, 1), t=(0, 2)))))
    assert told.startswith("problem.domain was ")
    before, now = told.removeprefix("problem.domain was ").split(", now is ")
    assert before != now
    assert len(told) < 200


def test_a_long_tail_is_cut():
    before = describe(_run(adaptive_points=RAD(conditions=("inside",) * 30)))
    after = _run(adaptive_points=RAD(conditions=("inside",) * 29 + ("start",)))
    (told,) = differences(before, after)
    assert "'start'" in told
    assert len(told) < 200


def test_what_is_free_is_not_told():
    assert differences(describe(BEFORE), _run(seed=3, max_steps=7), {"seed", "max_steps"}) == []


def test_of_several_networks_the_one_that_differs_is_told():
    saved = describe(BEFORE)
    several = {"u": saved["network"], "v": describe(_run(network=MLP((5,))))["network"]}
    (told,) = differences(saved | {"network": several}, BEFORE)
    assert told == "network was 'u, v', now is 'MLP'"


@pytest.mark.parametrize(
    "missing", sorted(f.name for f in dataclasses.fields(RunConfig) if f.name != "problem")
)
def test_a_field_that_an_older_version_did_not_write_had_its_default(missing):
    saved = describe(RunConfig(_problem()))
    del saved[missing]
    assert differences(saved, RunConfig(_problem())) == []


def test_nor_is_a_field_of_a_field_that_was_not_there():
    saved = json.loads(json.dumps(describe(BEFORE)))
    del saved["optimizer"]["recycle"], saved["causal"]["axis"], saved["problem"]["coefficients"]
    del saved["problem"]["conditions"][0]["sampling"]
    assert differences(saved, BEFORE) == []
    assert differences(saved, _run(optimizer=SNGD(rank=8, recycle=False))) == [
        "optimizer.recycle was True, now is False"
    ]


def test_a_field_that_is_no_more_is_told():
    assert differences(describe(BEFORE) | {"momentum": 0.5}, BEFORE) == ["momentum was 0.5, now is None"]
