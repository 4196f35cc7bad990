"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r'title="([^"]+)"')
_EXEMPT = re.compile(r"<!-- not run: (.+?) -->\n\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        language: python, sh, or empty for output and figures of text.
        title: the file that it is, if it is one.
        text: of it.
        exempt: why it is not run; empty for all but a few.
    """

    language: str
    title: str
    text: str
    exempt: str

    @property
    def is_config(self) -> bool:
        """Whether it defines a run."""
        return (
            self.language == "python"
            and re.search(r"^run = RunConfig\(", self.text, re.MULTILINE) is not None
        )

    @property
    def commands(self) -> list[str]:
        """Lines of a shell block, continued lines joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        language, _, rest = match[1].strip().partition(" ")
        title, exempt = _TITLE.search(rest), _EXEMPT.search(text[: match.start()])
        found.append(Block(language, title[1] if title else "", match[2], exempt[1] if exempt else ""))
    return found


def name(page: Path) -> str:
    """How a page is called in messages."""
    return str(page.relative_to(ROOT))
