"""Which trackers follow a run, as fields of a config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sngd.checks import one_of, require

__all__ = ["Tracking", "agreed_mode"]

Mode = Literal["online", "offline", "disabled"]
_MODES: tuple[Mode, ...] = ("disabled", "offline", "online")  # the quietest first
_SPELLINGS = {"dryrun": "offline", "run": "online"}
_LONGEST, _LONGEST_TAG = 128, 64  # characters that W&B takes
_NO_PROJECT = "/\\#?%:"


@dataclass(frozen=True)
class Tracking:
    """Who is told of a run beside console and run folder. Only rank 0 talks, and no tracker can stop a run.

    Args:
        wandb: Weights & Biases: "online"; "offline", written to the run folder for `wandb sync`; "disabled".
        project: W&B project; WANDB_PROJECT or else "sngd" when absent.
        entity: W&B user or team.
        group: name that runs share which belong together, e.g. seeds of one config.
        tags: words to find the run by.
        name: of the run; that of its run folder when absent.
        notes: a longer description.
        artifacts: keep every checkpoint as a W&B artifact.
        tensorboard: write event files to the run folder's tensorboard/.

    Raises:
        ValueError: a field is out of range, named with its value.
    """

    wandb: Mode = "disabled"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    name: str | None = None
    notes: str | None = None
    artifacts: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        project, tags = self.project, self.tags
        project_good = _text(project, _LONGEST) and not set(project or "") & set(_NO_PROJECT)
        named = f"text of 1 to {_LONGEST} characters"
        checks = [
            ("wandb", one_of(self.wandb, _MODES), '"online", "offline" or "disabled"'),
            ("project", project_good, f"{named} without any of {_NO_PROJECT}"),
            ("entity", _text(self.entity, _LONGEST), named),
            ("group", _text(self.group, _LONGEST), named),
            (
                "tags",
                isinstance(tags, tuple) and all(_text(tag, _LONGEST_TAG) and tag is not None for tag in tags),
                f'a tuple of words of 1 to {_LONGEST_TAG} characters, e.g. ("heat", "seeds")',
            ),
            ("name", _text(self.name, _LONGEST), named),
            ("notes", self.notes is None or isinstance(self.notes, str), "text"),
            ("artifacts", isinstance(self.artifacts, bool), "True or False"),
            ("tensorboard", isinstance(self.tensorboard, bool), "True or False"),
        ]
        require(self, checks, "tracking.")


def _text(value: Any, longest: int) -> bool:
    """Nothing, or words that fit."""
    return value is None or (isinstance(value, str) and bool(value.strip()) and len(value) <= longest)


def agreed_mode(wanted: Mode, environment: Mapping[str, str] = os.environ) -> tuple[Mode, str]:
    """What becomes of tracking.wandb under WANDB_MODE: the quieter of the two counts.

    So the variable can keep a machine without a network, or a test, from talking, and never makes a run talk
    whose config says nothing of W&B.

    Args:
        wanted: tracking.wandb.
        environment: holds WANDB_MODE, or not.

    Returns:
        The mode, and a line that says where the two disagree, empty where they do not.

    Raises:
        ValueError: WANDB_MODE is none that we know.
    """
    said = environment.get("WANDB_MODE", "").strip().lower()
    if wanted == "disabled" or not said:
        return wanted, ""
    told = _SPELLINGS.get(said, said)
    if told not in _MODES:
        raise ValueError(
            f'WANDB_MODE={said} must be "online", "offline" or "disabled" with tracking.wandb={wanted}'
        )
    mode = min(wanted, *[mode for mode in _MODES if mode == told], key=_MODES.index)
    if told == wanted:
        return mode, ""
    return mode, f"tracking.wandb={wanted}, but WANDB_MODE={said}: the quieter counts, W&B is {mode}"
