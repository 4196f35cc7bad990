"""Facts → HTML."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sngd.folder import versions
from sngd.report import fields, wording
from sngd.report.facts import Facts, inner, listed, read_facts
from sngd.tracking import write_whole

__all__ = ["REPORT", "write_report"]

REPORT = "report.html"
_HERE = Path(__file__).parent
_PNG = b"\x89PNG\r\n\x1a\n"
_DOTS = 150 / 96  # of a picture in a pixel of the page
# Of pictures by the names of their files.
_CAPTIONS = {
    "solution": "The network's fields; where the solution is known, that and the error between them.",
    "convergence": "Loss and error over time; losses of conditions, damping λ and rank k over steps.",
    "spectrum": "Eigenvalues of the sketched Gramian over the largest. What is below λ is damped away.",
    "coefficients": "Unknown coefficients over steps, beside their values where those are known.",
    "slices": "The network (thin) over the known solution (wide) along a coordinate, and the error.",
    "error_over_time": "Relative L2 error at each time.",
    "points": "Points that the run began with, by condition.",
}


def write_report(folder: Path, pictures: Sequence[Path] = (), path: Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        folder: of the run.
        pictures: PNG files of it, in order.
        path: of the page; report.html in the folder when absent.

    Raises:
        ValueError: the folder holds no run, or a picture is no PNG.
        OSError: the page cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    facts = read_facts(folder)
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(_content(facts, pictures))
    found = path or folder / REPORT
    write_whole(found, text.encode(errors="replace").decode())  # half of a surrogate pair has no bytes
    return found


def _content(facts: Facts, pictures: Sequence[Path]) -> dict[str, Any]:
    """What the page says."""
    problem, source = inner(facts.fields, "problem"), inner(facts.config, "source")
    all_fields = fields.rows(facts.fields)
    told = wording.warnings(facts)
    return {
        "style": (_HERE / "style.css").read_text(encoding="utf-8"),
        "name": facts.name,
        "about": wording.about(facts),
        "folder": str(facts.folder),
        "written": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": versions()["sngd"],
        "verdict": wording.verdict(facts),
        "warnings": told,
        "figures": wording.figures(facts),
        "pictures": [_picture(path) for path in pictures],
        "residuals": wording.residuals(facts),
        "dtype": str(inner(facts.result, "certificate").get("dtype") or "float64"),
        "estimate": wording.estimate(facts),
        "coefficients": wording.coefficients(facts),
        "domain": str(problem.get("domain") or ""),
        "unknown_fields": ", ".join(map(str, listed(problem, "fields"))),
        "conditions": [c for c in listed(problem, "conditions") if isinstance(c, dict)],
        "changed": [row for row in all_fields if row.differs],
        "fields": all_fields,
        "source": {"path": str(source.get("path") or ""), "text": str(source.get("text") or "")},
        "machine": wording.machine_rows(facts),
        "plan": [str(line) for line in listed(facts.config, "plan")],
        "traffic": wording.traffic(facts),
        "next_steps": wording.next_steps(facts),
    }


def _picture(path: Path) -> dict[str, Any]:
    """A picture as the page holds it.

    Raises:
        ValueError: it is no PNG.
    """
    content = path.read_bytes()
    if content[:8] != _PNG or len(content) < 24:
        raise ValueError(f"{str(path)!r} is no PNG")
    width, height = struct.unpack(">II", content[16:24])
    return {
        "name": path.stem.replace("_", " "),
        "caption": _CAPTIONS.get(path.stem, ""),
        "data": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "width": round(width / _DOTS),
        "height": round(height / _DOTS),
    }
