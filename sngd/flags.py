"""Flags as a user writes them: none is abbreviated, none is given twice, CONFIG comes before its fields.

The last of several values would count without a word, and an abbreviation means another flag as soon as one
is added.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sngd.exit_codes import USER_ERROR

__all__ = ["HELP", "Parser", "refuse_repeated"]

HELP = ("-h", "--help")

# The batch scripts add it after a user's own, which it is made of.
_MAY_REPEAT = "--run-dir"


class _Help(argparse.HelpFormatter):
    """Wraps paragraphs, never within a flag; those with a line that begins with a blank stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            block if "\n " in block else "\n".join(self._split_lines(block, width))
            for block in text.split("\n\n")
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are ValueErrors, to be told in one line like all others.

    Args:
        examples: command lines after "sngd", and what they do.
        epilog: what is said before the examples.
        settings: as argparse has them.
    """

    def __init__(
        self, *, examples: Mapping[str, str] | None = None, epilog: str = "", **settings: Any
    ) -> None:
        wide = max(map(len, examples or ()), default=0)
        lines = [f"  sngd {line:{wide}}  {what}" for line, what in (examples or {}).items()]
        after = [*[epilog] * bool(epilog), *["\n".join(["examples:", *lines])] * bool(lines)]
        settings.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, epilog="\n\n".join(after), **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.prog}: {message}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it, and no flag twice.

        Raises:
            ValueError: the arguments cannot be understood.
        """
        given = list(args or ())
        own = {option: action.dest for option, action in self._option_string_actions.items()}
        refuse_repeated(given, own)
        return super().parse_known_args(given, namespace)

    def split(self, given: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """This parser's options with `config`, and the flags that replace fields of CONFIG.

        `--help` after CONFIG is one of them; without CONFIG it is answered here.

        Raises:
            ValueError: the arguments cannot be understood, or such a flag stands before CONFIG, so that its
                value would be taken for CONFIG.
            SystemExit: with code 0 where help was asked for, with 2 where nothing was given.
        """
        if not given or given[0] in HELP:
            self.print_help()
            raise SystemExit(0 if given else USER_ERROR)
        try:
            options, flags = self.parse_known_args(given)
        except ValueError:  # no CONFIG, say
            if not set(given) & set(HELP):
                raise
            self.print_help()
            raise SystemExit(0) from None
        first = next((flag for flag in flags if flag.startswith("-")), None)
        if first is not None and list(given).index(first) < list(given).index(options.config):
            raise ValueError(f"{first} must come after CONFIG, which {options.config!r} is taken for")
        return options, flags


def refuse_repeated(flags: Sequence[str], own: dict[str, str] | None = None) -> None:
    """Refuse a flag that is given twice; --no-FLAG is --FLAG, and _ is -.

    Args:
        flags: words of a command line.
        own: of all spellings of the flags that count, what they set; all words with two dashes when absent.

    Raises:
        ValueError: one is.
    """
    seen = set[str]()
    for word in flags:
        if word == "--":
            return
        name = word.partition("=")[0]
        field = _field(name) if name.startswith("--") else None
        key = field if own is None else own.get(name)
        if key is None or field == _MAY_REPEAT:
            continue
        if key in seen:
            raise ValueError(f"{name} is given twice: leave one of them out")
        seen.add(key)


def _field(name: str) -> str:
    """What a flag of a field sets: --optimizer.recycle for --optimizer.no_recycle."""
    above, dot, last = name.replace("_", "-")[2:].rpartition(".")
    return f"--{above}{dot}{last.removeprefix('no-')}"
