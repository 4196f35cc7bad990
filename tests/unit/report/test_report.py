"""report.html: what it says, that it needs nothing else, and what damaged folders do to it."""

from __future__ import annotations

import base64
import json
import math
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sngd.audience import Audience
from sngd.cli import main
from sngd.report import REPORT, write_report
from tests.finished import train_all
from tests.pages import Page

ODD = """\
\"\"\"Odd </title><script>alert('é')</script> names & "quotes".\"\"\"
from sngd import MLP, SNGD, Coefficient, Condition, Problem, RunConfig, d
from sngd.data import Data
from sngd import Box

domain = Box(x=(0, 1), t=(0, 1))
X, T = domain.axes
equation = lambda u, p: d(u, T) - p["k"] * d(u, X, X)
data = Data(domain, [[0.1 * i, 0.05 * i] for i in range(5)], {"u": [1.0] * 5})
conditions = [
    Condition("<img src=//evil.example/x onerror=alert(1)>", equation, domain.interior, 40),
    Condition("measured & \\"quoted\\"", lambda u, p: u - p.data["u"], data, 5),
]
unknown = {"k": Coefficient(1.5, lower=0.0, exact=2.0)}
name = "<script>alert(1)<b> {{ 7 * 7 }} é &amp; 'quoted'"
problem = Problem(domain, conditions, coefficients=unknown, name=name)
run = RunConfig(problem, MLP(hidden=(6,)), SNGD(rank=8), max_steps=2, device="cpu")
"""
HEAT = """
from sngd import MLP, SNGD, RunConfig
from sngd.problems import heat

problem = heat(60, 10, 20)
run = RunConfig(problem, MLP(hidden=(8, 8)), SNGD(rank=12), max_steps=3, target_error=1e-9, device="cpu")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs, each with the report of its end."""
    return train_all(tmp_path_factory.mktemp("runs"), {"heat": HEAT, "odd": ODD})


@pytest.fixture
def heat(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "heat", tmp_path / "heat"))


def page(folder: Path) -> Page:
    return Page((folder / REPORT).read_text(encoding="utf-8"))


def change(folder: Path, name: str, **more: Any) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def test_a_run_ends_with_a_report(runs: Path) -> None:
    found = page(runs / "heat")
    result = json.loads((runs / "heat" / "result.json").read_text())
    assert f"The relative L2 error is {result['relative_l2']:.2e} after 3 steps" in found.text
    assert "all the 3 steps that it was given; the target, 1e-09, was not reached." in found.text
    for name, one in result["certificate"]["conditions"].items():
        assert name in found.text
        assert f"{one['rms']:.2e}" in found.text
        assert f"{one['max']:.2e}" in found.text
    assert "maximum principle" in found.text
    assert HEAT in found.text, "the config file as it was"
    assert f"sngd resume {runs / 'heat'} --max-steps 6" in found.text
    assert "optimizer.rank" in found.text
    names = [image["alt"].removeprefix("Picture of heat: ") for image in found.all("img")]
    assert names == ["solution", "convergence", "spectrum"]


def test_fields_that_differ_stand_beside_their_defaults(runs: Path) -> None:
    text = page(runs / "heat").text
    changed = text[text.index("Fields that differ") : text.index("All fields")].split()
    rows = dict(pairwise(changed))
    assert (rows["optimizer.rank"], rows["max_steps"], rows["target_error"]) == ("12", "3", "1e-09")
    assert "seed" not in changed
    assert "run_dir" not in text


@pytest.mark.parametrize("name", ["heat", "odd"])
def test_a_page_needs_nothing_else(runs: Path, name: str) -> None:
    found = page(runs / name)
    assert found.loads
    assert all(load.startswith("data:image/png;base64,") for load in found.loads)
    assert "url(" not in found.source
    assert "@import" not in found.source
    assert found.all("script") == found.all("link") == found.all("iframe") == found.handlers == []
    for image in found.all("img"):
        content = base64.b64decode(image["src"].partition(",")[2])
        assert content == (runs / name / f"{image['alt'].rpartition(': ')[2]}.png").read_bytes()
        assert int(image["width"]) > 100 < int(image["height"])
    policy = next(m["content"] for m in found.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("h1")) == len(found.all("title")) == 1
    assert all("scope" in head for head in found.all("th"))


def test_names_are_text(runs: Path) -> None:
    found = page(runs / "odd")
    for name in ("<script>alert(1)<b> {{ 7 * 7 }} é &amp; 'quoted'", 'measured & "quoted"'):
        assert name in found.text
    assert "<img src=//evil.example/x onerror=alert(1)>" in found.text
    assert "Odd </title><script>alert('é')</script>" in found.text
    assert "<script" not in found.source
    assert len(found.all("img")) == 4


def test_unknown_coefficients_stand_beside_their_values(runs: Path) -> None:
    k = json.loads((runs / "odd" / "result.json").read_text())["coefficients"]["k"]
    text = page(runs / "odd").text
    assert "Unknown coefficients" in text
    row = text[text.index("Unknown coefficients") :].split()[2:]
    assert [f"{k:.8g}", "2", f"{abs(2 - k):.2e}"] == row[row.index("k") + 1 :][:3]
    assert "Unknown coefficients" not in page(runs / "heat").text


def test_warnings_come_first(heat: Path) -> None:
    told = [{"kind": "overfitting", "step": 20, "text": "<b>more</b> points"}]
    change(heat, "result.json", warnings=told, fallbacks={"svd": 3})
    write_report(heat)
    text = page(heat).text
    assert "2 warnings" in text
    assert "Step 20: <b>more</b> points" in text
    assert "svd: another way had to be taken 3 times" in text
    assert text.index("Step 20") < text.index("What came of it")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("target_error", "stopped at its target, a relative L2 error of 1e-09"),
        ("interrupted", "was interrupted"),
        ("terminated", "told to end"),
        ("stalled", "no step lowered the loss"),
        ("max_seconds", "used up the seconds"),
        ("<odd>", "It ended with '<odd>'"),
        (None, "It ended with 'None'"),
    ],
)
def test_why_it_ended(heat: Path, reason: str | None, words: str) -> None:
    change(heat, "result.json", stop_reason=reason)
    write_report(heat)
    text = page(heat).text
    assert words in text
    assert ("go on from the last checkpoint" in text) == (reason in ("interrupted", "terminated"))


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"relative_l2": None, "loss": None, "errors": None, "certificate": None, "traffic": None},
        {"relative_l2": "1", "loss": True, "steps": [], "seconds": {}, "errors": [1], "certificate": "none"},
        {"certificate": {"conditions": {"a": None, "b": {}, "c": {"at": 1, "rms": "x"}}, "notes": "x"}},
        {"certificate": {"error_estimate": {"value": None, "source": None}, "notes": [1, None]}},
        {"traffic": {"a": 1, "b": {"calls": 1}}, "fallbacks": [], "warnings": [1, {"kind": None}]},
        {"peak_memory_bytes": -1, "world_size": "x", "coefficients": {"k": None, "l": 1.0}},
    ],
)
def test_odd_results_make_a_page(heat: Path, result: dict[str, Any]) -> None:
    (heat / "result.json").write_text(json.dumps(result))
    write_report(heat)
    assert page(heat).all("h1")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("history.jsonl", None, "history.jsonl is missing"),
        ("history.jsonl", b'{"step": 1}\nnonsense\n{"step": 3}\n', "history.jsonl is damaged: line 2"),
        ("history.jsonl", b"\xff\n[]\n{}\n", "history.jsonl is damaged: line 1"),
        ("history.jsonl", b"", ""),
        ("history.jsonl", b'{"step": "x", "loss": NaN, "seconds": null, "warnings": 3}\n', ""),
        ("result.json", b'{"loss": ', "result.json is damaged (JSONDecodeError)"),
        ("result.json", b"[]", "result.json is damaged (list)"),
        ("config.json", b"nonsense", "config.json is damaged (JSONDecodeError)"),
        ("config.json", b"{}", ""),
        (
            "config.json",
            b'{"fields": {"problem": 3, "network": {}, "optimizer": [1]}, "source": 1}',
            "",
        ),
        (
            "config.json",
            b'{"source": {"text": "\\ud800", "flags": [1]}, "fields": {"a": {"b": {"c": null}}}}',
            "",
        ),
    ],
)
def test_damaged_files_are_told_of(heat: Path, name: str, content: bytes | None, told: str) -> None:
    (heat / name).unlink()
    if content is not None:
        (heat / name).write_bytes(content)
    write_report(heat)
    text = page(heat).text
    assert told in text
    assert text.count("Of this run's folder") == bool(told)


def test_numbers_that_are_none(heat: Path) -> None:
    change(heat, "result.json", relative_l2=math.nan, loss=math.inf, seconds=math.nan)
    records = [json.loads(line) for line in (heat / "history.jsonl").read_text().splitlines()]
    (heat / "history.jsonl").write_text("".join(json.dumps(r | {"loss": math.nan}) + "\n" for r in records))
    write_report(heat)
    assert "nan" not in page(heat).text.lower().split("what was run")[0]


# sngd report


def test_the_command_draws_all_pictures_and_leaves_those_of_the_folder(
    heat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in heat.iterdir() if path.suffix == ".png"}
    assert main(["report", str(heat)]) == 0
    assert capsys.readouterr() == (f"{heat / REPORT}\n", "")
    assert len(page(heat).all("img")) == 6
    assert {p.name: p.read_bytes() for p in heat.iterdir() if p.suffix == ".png"} == before


def test_the_command_writes_elsewhere_without_pictures(
    heat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (heat / REPORT).unlink()
    other = heat.parent / "é page.html"
    assert main(["report", str(heat), "--no-pictures", "-o", str(other)]) == 0
    assert Page(other.read_text(encoding="utf-8")).all("img") == []
    assert not (heat / REPORT).exists()
    assert main(["report", str(heat), "--no-pictures", "-o", str(heat / "no" / "page.html")]) == 2
    assert capsys.readouterr().err.endswith("cannot be written: its folder does not exist\n")


def test_a_run_that_has_not_ended_has_a_report_without_pictures(
    heat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("result.json", "spectra.npz"):
        (heat / name).unlink()
    assert main(["report", str(heat)]) == 0
    assert "warning: no pictures: " in capsys.readouterr().err
    text = page(heat).text
    assert "no result yet: it runs, or was lost after step 3" in text
    assert f"sngd resume {heat}" in text


@pytest.mark.parametrize("made", [True, False])
def test_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], made: bool) -> None:
    if made:
        (tmp_path / "run").mkdir()
    assert main(["report", str(tmp_path / "run")]) == 2
    why = "holds no run (config.json is missing)" if made else "does not exist"
    assert why in capsys.readouterr().err


# The end of a run


def test_what_is_shown_of_spectra_is_not_kept(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("sngd.tracking.Console.step", lambda self, record: seen.append(record["spectrum"]))
    flags = ["--run-dir", str(tmp_path / "run"), "--no-pictures", "--optimizer.rank", "40"]
    assert main(["train", str(runs / "heat.py"), *flags]) == 0
    records = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert "spectrum" not in {key for record in records for key in record}
    for shown, record in zip(seen, records, strict=True):
        assert len(shown) == 32
        assert (shown[0], shown[-1]) == (record["sigma_1"], record["sigma_k"])
        assert shown == sorted(shown, reverse=True)


def test_no_pictures_no_report(runs: Path, tmp_path: Path) -> None:
    flags = ["--run-dir", str(tmp_path / "run"), "--quiet", "--no-pictures"]
    assert main(["train", str(runs / "heat.py"), *flags]) == 0
    assert not (tmp_path / "run" / REPORT).exists()


def test_a_report_that_fails_does_not_undo_the_training(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sngd.audience.write_report", lambda *_: 1 / 0)
    folder = tmp_path / "run"
    assert main(["train", str(runs / "heat.py"), "--run-dir", str(folder), "--quiet"]) == 0
    told = capsys.readouterr().err
    assert told == f"warning: no report.html: division by zero; `sngd report {folder}` writes it\n"
    assert (folder / "result.json").exists()
    assert (folder / "solution.png").exists()


def test_the_report_of_an_earlier_end_goes_when_a_run_goes_on(
    heat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Audience, "draw_pictures", lambda *_: None)
    assert (heat / REPORT).exists()
    assert main(["resume", str(heat), "--max-steps", "4", "--quiet"]) == 0
    assert not (heat / REPORT).exists()
