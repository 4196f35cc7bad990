"""Files and functions stay short enough to be read at once."""

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("sngd", "tests", "benchmarks", "configs", "launch", "references", "docs")
LINES = 350
MEDIAN = 200
FUNCTION_LINES = 60

# path relative to the repository: why it is longer
LONG_FILES: dict[str, str] = {}
# path::function: why it is longer
LONG_FUNCTIONS = {
    "sngd/problems/cavity.py::cavity": "one problem: equations, conditions and corner terms read together",
    "sngd/problems/schroedinger.py::schroedinger": "one problem: its equations and conditions read together",
}


def sources() -> dict[str, str]:
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def functions(text: str) -> dict[str, int]:
    """Lines of every function by its name, the longest of several."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            found[node.name] = max(lines, found.get(node.name, 0))
    return found


def test_files_are_short():
    lines = {path: len(text.splitlines()) for path, text in sources().items()}
    assert len(lines) > 300
    long = {path: count for path, count in lines.items() if count > LINES}
    assert sorted(long) == sorted(LONG_FILES), f"{long}: split them, or take out of LONG_FILES what is short"
    assert statistics.median(lines.values()) <= MEDIAN


def test_functions_are_short():
    long = {
        f"{path}::{name}": lines
        for path, text in sources().items()
        for name, lines in functions(text).items()
        if lines > FUNCTION_LINES
    }
    assert sorted(long) == sorted(LONG_FUNCTIONS), f"{long}: split them, or take out of LONG_FUNCTIONS"
    assert all(len(reason) > 20 for reason in LONG_FUNCTIONS.values())


def test_lines_of_a_function_are_counted_whole():
    text = "class A:\n  def one(self):\n    x = (\n      1\n    )\n    return x\n\ndef two(): ...\n"
    assert functions(text) == {"one": 5, "two": 1}
