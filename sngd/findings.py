"""What whoever reads a run's result should know: warnings, and calls that needed a second way.

Told once each: on the console, in the step's record, and at the end in result.json.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Finding", "Findings"]


@dataclass(frozen=True)
class Finding:
    """One warning.

    Args:
        kind: a word for programs, e.g. "overfitting".
        step: of the run, at which it was found.
        text: a line for people.
    """

    kind: str
    step: int
    text: str


class Findings:
    """All warnings of a run, and how often calls fell back on another way."""

    def __init__(self) -> None:
        self.all: list[Finding] = []
        self.fallbacks: Counter[str] = Counter()
        self._told = 0

    def add(self, kind: str, step: int, text: str) -> None:
        """Take one in."""
        self.all.append(Finding(kind, step, text))

    def fell_back(self, fallbacks: Counter[str], step: int) -> dict[str, int] | None:
        """Take in what failed in a step, by what served in its place; the given count begins anew."""
        new = dict(fallbacks)
        for what in new:
            if what not in self.fallbacks:
                failed, _, way = what.partition(" by ")
                self.add(
                    "fallback", step, f"{failed} has failed, {way} has served; result.json counts how often"
                )
        self.fallbacks.update(new)
        fallbacks.clear()
        return new or None

    def untold(self) -> list[str]:
        """Texts of those since the last call."""
        new = [finding.text for finding in self.all[self._told :]]
        self._told = len(self.all)
        return new

    def plain(self) -> list[dict[str, Any]]:
        """All of them, as result.json has them."""
        return [asdict(finding) for finding in self.all]

    def save(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"all": self.plain(), "fallbacks": dict(self.fallbacks)}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.all = [Finding(**finding) for finding in saved["all"]]
        self.fallbacks, self._told = Counter(saved["fallbacks"]), len(self.all)
