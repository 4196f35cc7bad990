"""A hook of the training loop that keeps what it is told, and short runs that it follows."""

import os
import signal

import torch

from sngd import MLP, SNGD, RunConfig, train
from sngd.collectives import LocalRanks
from sngd.problems import heat


class Follow:
    """Keeps records; at a step it does something, or asks the run to stop.

    Args:
        at: the step.
        action: what to do there; a signal to stop, heard during the next step, when absent.
    """

    def __init__(self, at=None, action=None):
        self.at, self.action = at, action or (lambda: os.kill(os.getpid(), signal.SIGUSR1))
        self.starts, self.records, self.checkpoints, self.result = [], [], [], None

    @property
    def info(self):
        """What was told at the only start."""
        (info,) = self.starts
        return info

    def start(self, info):
        self.starts.append(info)

    def step(self, record):
        self.records.append(record)
        if record["step"] == self.at:
            self.action()

    def saved(self, path, step):
        self.checkpoints.append(step)

    def end(self, result):
        self.result = result


def short_run(**changes) -> RunConfig:
    """The heat equation, six steps."""
    fields = {
        "problem": heat(80, 12, 16),
        "network": MLP((8, 8)),
        "optimizer": SNGD(rank=24),
        "max_steps": 6,
        "evaluate_points": 300,
        "device": "cpu",
    }
    return RunConfig(**{**fields, **changes})


def followed(run, hook=None, folder=None):
    """What a run leaves behind, and its hook."""
    hook = hook or Follow()
    trained = train(run, LocalRanks(), torch.device("cpu"), hooks=[hook], folder=folder)
    assert trained.result is hook.result
    return trained, hook


def losses_of(run):
    return [record["loss"] for record in followed(run)[1].records]
