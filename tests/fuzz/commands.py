"""Command lines, good, misspelt and odd."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.strategies import TEXT

TINY = """
from sngd import MLP, SNGD, RunConfig
from tests.fuzz.problems import tiny

run = RunConfig(tiny(), MLP(hidden=(3,)), SNGD(rank=2), max_steps=1, device="cpu", evaluate_points=20)
"""
# A config with all that changes on the way, for its flags.
CHANGING = (
    TINY.replace(
        'device="cpu"', 'device="cpu", adaptive_points=RAD(), curriculum=Curriculum("nu", (1.0,), 1)'
    )
    .replace("import MLP", "import RAD, Curriculum, MLP")
    .replace("max_steps=1", "max_steps=3")
)

WORDS = st.one_of(
    st.sampled_from(
        [
            "0",
            "1",
            "2",
            "3",
            "-1",
            "+3",
            "1_0",
            "3.7",
            "1e-3",
            "1e3",
            "nan",
            "inf",
            "-inf",
            "none",
            "None",
            "true",
            "False",
            "0x10",
            "٣",
            "²",
            "x",
            "sin",
            "adam",
            "auto",
            "9999999999999999999",
            "1e400",
            "tanh",
            "float32",
            "cpu",
            "cuda",
            "8,8",
            "[8]",
            "(8,8)",
            "--",
            "-",
            "--seed",
            "-h",
            "100000000000000000",
        ]
    ),
    st.sampled_from(
        ["", " ", "9" * 5000, "x" * 5000, "a b", "a\nb", "\udcff", "ü∂", "\0", "runs/a", "3 ", "\u2028"]
    ),
    TEXT,
)
GOOD = {
    "--seed": ["0", "3", "2147483647", "1_0"],
    "--max-steps": ["1", "2", "+3"],
    "--max_steps": ["2"],
    "--max-seconds": ["1.5", "None", "inf", "2"],
    "--target-error": ["None", "1e-6"],
    "--evaluate-every": ["1", "7"],
    "--evaluate-points": ["20"],
    "--resample-every": ["0", "1"],
    "--precision": ["float32", "mixed", "float64"],
    "--device": ["cpu", "auto"],
    "--memory-gb": ["1", "0.5", "None"],
    "--run-dir": ["new", "a b", "ü"],
    "--timeout-seconds": ["9"],
    "--checkpoint-seconds": ["9.5", "inf"],
    "--warmup-steps": ["0", "1"],
    "--warmup.rate": ["0.1"],
    "--network.hidden": ["3", "2 3"],
    "--network.activation": ["sin", "gelu"],
    "--network.modes": ["2"],
    "--network.fourier": ["2"],
    "--network.axes": ["x", "x t"],
    "--optimizer": ["adam", "auto", "engd", "spring", "lbfgs", "sngd"],
    "--optimizer.rank": ["2", "3"],
    "--optimizer.max-rank": ["4", "None"],
    "--optimizer.damping": ["0.1", "1"],
    "--optimizer.corrections": ["0", "2"],
    "--tracking.project": ["heat", "None"],
    "--tracking.tags": ["a", "a b"],
    "--tracking.notes": ["words", "3", "None", "ü"],
    "--adaptive-points.every": ["1"],
    "--adaptive-points.conditions": ["equation"],
    "--curriculum.values": ["1", "2 1"],
    "--curriculum.steps": ["1", "1 1"],
    "--curriculum.interpolation": ["linear"],
}
SWITCHES = [
    *("--balance", "--no-balance", "--optimizer.no-recycle", "--optimizer.adaptive-rank"),
    *("--network.weight-factorization", "--tracking.tensorboard", "--no-tracking.tensorboard"),
]


@st.composite
def flags(draw: Any) -> list[tuple[str, Any]]:
    """Flags of fields, each (name, words) with words a list, or a bool for a switch; mostly good."""
    chosen = draw(st.lists(st.sampled_from([*GOOD, *SWITCHES]), max_size=4))
    found: list[tuple[str, Any]] = []
    for name in chosen:
        if name in SWITCHES:
            found.append((name, "no-" not in name))
        else:
            good = draw(st.integers(0, 9)) < 7
            text = draw(st.sampled_from(GOOD[name])) if good else draw(WORDS)
            found.append((name, text.split(" ") if good and name != "--run-dir" else [text]))
    return found


@st.composite
def spelt(draw: Any, given: list[tuple[str, Any]]) -> list[str]:
    """Flags as words of a command line, some with =, with _ for -, misspelt, cut, or without a value."""
    words: list[str] = []
    for name, value in given:
        how = draw(st.sampled_from(["plain"] * 8 + ["=", "_", "typo", "cut", "bare"]))
        name = {"_": name[:2] + name[2:].replace("-", "_"), "typo": name + "s", "cut": name[:-1]}.get(
            how, name
        )
        if isinstance(value, bool):
            words.append(f"{name}=True" if how == "=" else name)
        elif how == "=" and len(value) == 1:
            words.append(f"{name}={value[0]}")
        else:
            words += [name, *([] if how == "bare" else value)]
    return words


OTHERS = {
    "status": ["run"],
    "eval": ["run", "--points 20", "--device cpu", "--json"],
    "plot": ["run", "--what spectrum", "--format png", "--dpi 20", "--what points"],
    "export": ["run", "--grid 2x2", "--points points.csv", "--output out.npz", "-o out.npz", "--format npz"],
    "problems": ["heat", "burgers"],
    "submit": ["tiny.py", "--dry-run", "--nodes 2", "--time 2h", "--array 0-3", "--mem 4G", "--job-name a"],
    "plan": ["tiny.py", "--ranks 2", "--memory 1GB", "--rank 2", "--seed 3"],
    "resume": ["run", "--max-steps 1", "--quiet"],
    "bench": ["quick", "--dry-run", "--seeds 1", "--only heat", "--threads 1", "--folder benchmarks"],
    "train": ["tiny.py", "--quiet", "--ranks 1", "--run-dir run", "--resume"],
}


@st.composite
def command_lines(draw: Any) -> list[str]:
    """A command with its arguments, some left out, misspelt, repeated or replaced by anything."""
    name = draw(st.sampled_from(list(OTHERS)))
    first, *rest = OTHERS[name]
    words = [first] if draw(st.integers(0, 9)) else draw(st.lists(WORDS, max_size=1))
    for part in draw(st.lists(st.sampled_from(rest), max_size=3)) if rest else []:
        flag, *value = part.split(" ")
        how = draw(st.sampled_from(["plain"] * 5 + ["=", "any", "cut", "typo", "bare", "stray"]))
        if how == "cut" and len(flag) > 4:
            flag = flag[:-2]
        if how == "typo":
            flag += "x"
        value = {"any": [draw(WORDS)], "bare": [], "stray": [*value, draw(WORDS)]}.get(how, value)
        words += [f"{flag}={value[0]}"] if how == "=" and value else [flag, *value]
    if draw(st.integers(0, 9)) == 0:
        words = draw(st.permutations(words))
    if name in ("bench", "submit") and "--dry-run" not in words:
        words.append("--dry-run")  # nothing is measured or handed over here
    if name == "problems" and not draw(st.integers(0, 9)):
        words = []  # the whole table takes half a second
    return [name, *words]
