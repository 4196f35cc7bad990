"""Files that the command line and Data read: config files, run folders, measurements, good and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.fuzz.commands import TINY
from tests.fuzz.strategies import TEXT

# ---------------------------------------------------------------------------------------------
# Config files
# ---------------------------------------------------------------------------------------------

STATEMENTS = [
    *(
        "run = 3",
        "run = None",
        "run = RunConfig",
        "x = 1",
        "run = (",
        "def f(:",
        "run = RunConfig(tiny(), max_stepz=3)",
    ),
    *("import no_such_module", "from sngd import Nothing", "1 / 0", "raise ValueError('two\\nlines')"),
    *(
        "raise SystemExit(0)",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "raise GeneratorExit",
        "raise MemoryError",
    ),
    *("class E(BaseException): pass\nraise E('a\\nb')", "class E(Exception):\n    __str__ = None\nraise E"),
    *(
        "def f(): return f()\nf()",
        "print('hello')",
        "import sys; sys.exit('no')",
        "import sys; sys.path.clear()",
    ),
    *(
        "raise StopIteration",
        "assert False",
        "x = 10 ** 5000; str(x)",
        "\tx = 1\n        y = 2",
        "run = RunConfig('heat')",
    ),
    *(
        "run = RunConfig(tiny(), seed=True)",
        "run = RunConfig(tiny(), optimizer='sgdn')",
        "run = RunConfig(tiny(), 3)",
    ),
    *(
        "del run",
        "run.seed = 3",
        "RunConfig(problem=None)",
        "raise OSError(2, 'gone', 'file')",
        "x = '\\ud800'",
    ),
    *(
        "raise BrokenPipeError",
        "import torch; torch.zeros(2) + torch.zeros(3)",
        "import torch; torch.empty(10**15)",
    ),
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "latin-1"]


@st.composite
def config_files(draw: Any) -> bytes:
    """The bytes of a config file."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=40))
    body = draw(st.lists(st.sampled_from(STATEMENTS), max_size=2))
    parts = [TINY, *body] if draw(st.booleans()) else [*body, TINY]
    if kind == 1:
        parts = body
    text = (
        "\n".join([draw(st.sampled_from(["", "", "# ü\n", "# -*- coding: latin-1 -*-\n# ü"])), *parts]) + "\n"
    )
    content = text.encode(draw(st.sampled_from(["utf-8"] * 5 + ENCODINGS)), "surrogatepass")
    return draw(mutated(content)) if kind < 4 else content


@st.composite
def mutated(draw: Any, content: bytes) -> bytes:
    """Bytes cut short, with some replaced, put in or taken out."""
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["cut", "set", "insert", "drop", "double"]))
        byte = draw(st.binary(min_size=1, max_size=4))
        if how == "cut":
            content = content[:at]
        elif how == "set":
            content = content[:at] + byte + content[at + len(byte) :]
        elif how == "insert":
            content = content[:at] + byte + content[at:]
        elif how == "drop":
            content = content[:at] + content[at + 5 :]
        else:
            content = content[: at + 1] + content[at:]
    return content


JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 10**20), st.floats(), TEXT, st.just(10**400)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def restructured(draw: Any, value: Any) -> Any:
    """JSON with one part somewhere replaced, taken out, or put in beside."""
    if isinstance(value, dict) and value and draw(st.integers(0, 3)):
        key = draw(st.sampled_from(sorted(value)))
        how = draw(st.sampled_from(["inside"] * 4 + ["drop", "rename"]))
        rest = {k: v for k, v in value.items() if k != key}
        if how == "drop":
            return rest
        if how == "rename":
            return rest | {draw(TEXT): value[key]}
        return value | {key: draw(restructured(value[key]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(restructured(value[at])), *value[at + 1 :]]
    return draw(JSONS)


CHECKPOINT = ["manifest.json", "rank-0.tensors", "SHA256SUMS"]
DAMAGED = ["config.json", "history.jsonl", "result.json", "spectra.npz", *CHECKPOINT]
READERS = {
    "config.json": ["status", "eval", "train", "resume", "export", "plot"],
    "history.jsonl": ["plot", "plot", "eval"],
    "result.json": ["status", "status", "resume", "plot"],
    "spectra.npz": ["plot"],
    **{name: ["status", "eval", "resume"] for name in CHECKPOINT},
}


@st.composite
def damages(draw: Any, run: Path) -> tuple[str, bytes | None, str]:
    """A file of a run folder, what stands in its place (None: nothing), and the command that reads it."""
    name = draw(st.sampled_from(DAMAGED))
    reader, how = draw(st.sampled_from(READERS[name])), draw(st.integers(0, 9))
    if name in CHECKPOINT:
        (kept,) = run.glob("checkpoints/step-*")
        name = str((kept / name).relative_to(run))
    content = (run / name).read_bytes()
    if how == 0:
        return (
            name,
            draw(st.sampled_from([None, b"", b"[" * 100_000, b"null", b"\xff\xfe", b"{}", b"[1, 2]"])),
            reader,
        )
    if name == "spectra.npz" and how < 6:
        return name, arrays(draw(st.sampled_from(ARRAYS)), draw(st.sampled_from(["npz", "npy"]))), reader
    if name.endswith(".json") and how < 7:
        return name, json.dumps(draw(restructured(json.loads(content)))).encode(), reader
    if name.endswith(".jsonl") and how < 7:
        lines = [json.loads(line) for line in content.splitlines()]
        return name, "\n".join(json.dumps(draw(restructured(line))) for line in lines).encode(), reader
    return name, draw(mutated(content)), reader


def damaged_copy(run: Path, folder: Path, name: str, content: bytes | None) -> Path:
    """A copy of a run folder with one file replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return folder


# ---------------------------------------------------------------------------------------------
# Data files
# ---------------------------------------------------------------------------------------------

ARRAYS = [
    *(
        "good",
        "nan",
        "empty",
        "scalar",
        "text",
        "object",
        "complex",
        "bool",
        "whole",
        "cube",
        "ragged",
        "huge",
    ),
    *("records", "times", "wrong names", "step"),
]


def arrays(kind: str, form: str) -> bytes:
    """A file of numpy's with arrays of a kind."""
    n = np.linspace(0.1, 0.9, 4)
    x: Any = {
        "nan": np.array([0.1, np.nan]),
        "empty": np.zeros(0),
        "scalar": np.array(0.5),
        "text": np.array(["0.1", "0.2"]),
        "object": np.array([{}, None], dtype=object),
        "complex": n * 1j,
        "bool": np.array([True, False]),
        "whole": np.array([0, 1]),
        "cube": np.zeros((2, 2, 2)),
        "records": np.zeros(3, dtype=[("x", float)]),
        "times": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"),
    }.get(kind, n)
    path = Path(f"arrays.{form}")
    if form == "npy":
        np.save(path, np.stack([x, x], axis=-1) if x.ndim else x, allow_pickle=True)
    else:
        names = {"wrong names": ["a", "b"], "step": ["step_1", "step_2"]}.get(kind, ["x", "t", "u"])
        columns = {name: x[:2] if kind == "ragged" and name == "t" else x for name in names}
        np.savez(path, allow_pickle=True, **columns)
    if kind == "huge" and form == "npy":  # more numbers declared than any memory holds
        with path.open("wb") as stream:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10**13, 2)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.write(bytes(64))
    return path.read_bytes()


CELLS = st.one_of(
    st.sampled_from(
        [
            "0.5",
            "0.1",
            "1",
            "",
            " ",
            "x",
            "nan",
            "inf",
            "1e400",
            "1_0",
            "0x1",
            "1+1j",
            '"0.5"',
            '"',
            "\0",
            "٣",
        ]
    ),
    TEXT,
)
HEADERS = [
    "x,t,u",
    "x,t,u",
    "x, t , u",
    "t,x,u",
    "x,t,u,u",
    "x,u",
    "x,t",
    "# x,t,u",
    "",
    "X,T,U",
    "u",
    "\ufeffx,t,u",
]


@st.composite
def tables(draw: Any) -> bytes:
    """A CSV file."""
    header = draw(st.sampled_from(HEADERS))
    good = draw(st.booleans())
    cell = st.sampled_from(["0.5", "0.25", "1"]) if good else CELLS
    rows = draw(st.lists(st.lists(cell, min_size=2 if good else 0, max_size=3), max_size=4))
    text = "\n".join([header, *(",".join(row) for row in rows)])
    return (
        draw(mutated(text.encode("utf-8", "surrogatepass")))
        if draw(st.integers(0, 3)) == 0
        else text.encode("utf-8", "surrogatepass")
    )


@st.composite
def data_files(draw: Any) -> tuple[str, bytes, str, Any]:
    """(suffix, bytes, reader, values): reader "csv" or "npz" of Data, or "points" of sngd export."""
    form = draw(st.sampled_from(["csv", "csv", "npz", "npy"]))
    if form == "csv":
        content = draw(tables())
    else:
        content = arrays(draw(st.sampled_from(ARRAYS)), form)
        content = draw(mutated(content)) if draw(st.booleans()) else content
    reader = draw(st.sampled_from(["csv" if form == "csv" else "npz", "points"]))
    values = draw(st.sampled_from([(), (), "u", ("u",), ["u", "x"], ("q",), 3, None, ("u", 1)]))
    return form, content, reader, values
