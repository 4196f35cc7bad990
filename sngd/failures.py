"""A rank that ends early: how the others learn which one it was and why, and end too.

Every rank has a thread that waits at the store which the ranks met at. A rank that fails, or that loses
another one in a collective, calls the roll; the threads answer at once, whatever their ranks compute. Who
does not answer is lost: killed, stopped or cut off. The lowest rank that is left tells it.

    host/r    r's machine, set when it joins
    roll      set to call the roll: why, if the caller has failed
    alive/r   r's answer: what it does
    failed/r  what r ended with
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from sngd.allocation import first_line
from sngd.bootstrap import Rendezvous
from sngd.exit_codes import LOST_RANK
from sngd.launcher import Launch

__all__ = ["LostRankError", "RankFailedError", "RollCall", "leave", "record_failure"]

# For the others to answer; for a rank to end by itself once the roll is called.
_ANSWER_SECONDS, _END_SECONDS = 2.0, 6.0
# How long a rank that lost another one stays at least: longer than it takes the telling one to tell.
_LAST_SECONDS = 2.5
# Between looks at the store; longer on more than 64 ranks, so that it is not asked more often.
_POLL_SECONDS = 0.2
_COMPUTING = "computing"


class LostRankError(RuntimeError):
    """A collective failed: another rank is gone. Without a text where another rank tells it."""


class RankFailedError(RuntimeError):
    """This rank alone has failed; the text names it, the cause is the error itself."""


class RollCall:
    """One rank's part in finding out who is left.

    Args:
        launch: of the ranks.
        met: where they met.
    """

    def __init__(self, launch: Launch, met: Rendezvous) -> None:
        self.rank, self.size, self.host = launch.rank, launch.size, socket.gethostname()
        self.doing = _COMPUTING
        self._store_host, self._heard = met.host, ""
        self._store, self._listener = met.connection(), met.connection()
        self._closed, self._ending = threading.Event(), threading.Event()
        self._store.set(f"host/{self.rank}", self.host)
        self._thread = threading.Thread(target=self._listen, name="sngd-roll-call", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        """Answer, and end a rank whose collective waits for one that is gone."""
        try:
            while not self._listener.check(["roll"]):
                if self._closed.wait(_POLL_SECONDS * max(1.0, self.size / 64)):
                    return
            self._heard = self._listener.get("roll").decode()
            self._listener.set(f"alive/{self.rank}", self.doing)
        except RuntimeError:  # whoever hosted the store is gone; this rank's next collective will tell
            return
        if not self._ending.wait(_END_SECONDS):
            told = self._inquire(self._listener, self.doing, "it was asked to end")
            if told:
                print(f"error: {told}", file=sys.stderr)
            leave(LOST_RANK)

    def close(self) -> None:
        """The ranks part in peace."""
        self._ending.set()
        self._closed.set()
        self._thread.join()

    def fail(self, text: str, common: bool) -> bool:
        """Tell the others that this rank ends, and with what.

        Args:
            text: its error, empty if another rank has the text.
            common: it may be that all ranks meet this error.

        Returns:
            Whether rank 0 fails, too, if that may be: then one of the ranks tells it for all.
        """
        self._ending.set()
        try:
            self._store.set(f"failed/{self.rank}", text)
            self._store.set("roll", f"rank {self.rank} on {self.host} failed: {text}")
            self._answers(self._store, [rank for rank in range(self.size) if rank != self.rank])
            return common and 0 in self._answers(self._store, [0], ("failed",))
        except RuntimeError:
            return False

    def lost(self, what: str, error: Exception) -> LostRankError:
        """The error of a rank whose collective has failed, after a roll call.

        Args:
            what: label of the collective.
            error: what torch made of it.
        """
        self._ending.set()
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # launchers ask the rest to end meanwhile
        began = time.monotonic()
        told = self._inquire(self._store, f"in {what!r}", _reason(error))
        # after the rank that is to blame, so that launchers, which report the first one, report that
        time.sleep(max(0.0, began + _LAST_SECONDS - time.monotonic()))
        return LostRankError(told)

    def _inquire(self, store: Any, doing: str, reason: str) -> str:
        """What has become of the others; empty if a lower rank tells it, or here the one that failed."""
        noticed = f"rank {self.rank} on {self.host} noticed it {doing}: {reason}"
        try:
            store.set(f"alive/{self.rank}", doing)
            if not store.check(["roll"]):
                store.set("roll", "")
            below = self._answers(store, range(self.rank))
            if any(not answer.startswith("failed") for answer in below.values()):
                return ""
            found = below | self._answers(store, range(self.rank + 1, self.size))
            verdict = self._verdict(store, found)
            return f"{verdict}; {noticed}" if verdict else ""
        except RuntimeError:
            if f" on {self.host} failed: " in self._heard:  # and has told it here
                return ""
            ended = f"{self._store_host}, which hosts the rendezvous, has ended"
            return f"{self._heard or ended}; {noticed}"

    def _answers(
        self, store: Any, ranks: Iterable[int], kinds: Sequence[str] = ("failed", "alive")
    ) -> dict[int, str]:
        """Of those who answer in time: "failed: …", or what they do."""
        waiting, found = list(ranks), {}
        deadline = time.monotonic() + _ANSWER_SECONDS
        while waiting:
            for rank in list(waiting):
                for kind in kinds:
                    if store.check([f"{kind}/{rank}"]):
                        text = store.get(f"{kind}/{rank}").decode()
                        found[rank] = f"failed: {text}" if kind == "failed" else text
                        waiting.remove(rank)
                        break
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        return found

    def _verdict(self, store: Any, found: dict[int, str]) -> str:
        def named(rank: int) -> str:
            known = store.check([f"host/{rank}"])
            return f"rank {rank} on {store.get(f'host/{rank}').decode() if known else 'an unknown host'}"

        others = [rank for rank in range(self.size) if rank != self.rank]
        failed = [f"{named(r)} {found[r]}" for r in others if found.get(r, "").startswith("failed: ")]
        lost = [f"{named(r)} does not answer (killed, stopped or cut off)" for r in others if r not in found]
        busy = [f"{named(r)} is {found[r]}" for r in others if found.get(r) == _COMPUTING]
        if failed and all(f" on {self.host} failed: " in text for text in failed):
            return ""
        return "; ".join(failed or lost or ["all ranks answer, but a collective failed", *busy])


def _reason(error: Exception) -> str:
    """What gloo says, less the line of its source and the advice."""
    said = first_line(error)
    return said[said.find("] ") + 1 :].strip().partition(". This is typically")[0]


def record_failure(error: BaseException) -> None:
    """Leave the error where torchrun looks for it, so that its summary shows it; nothing under others."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def leave(code: int) -> NoReturn:
    """End this process at once: destructors and exit handlers may wait for ranks that are gone."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
