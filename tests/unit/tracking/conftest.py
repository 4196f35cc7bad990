import pytest


@pytest.fixture(autouse=True)
def _no_wandb_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_PROJECT", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
