"""Exit codes of `sngd train` beside 0, for a run that came to its end, and 1, for what nobody foresaw."""

from __future__ import annotations

__all__ = ["DEVICE", "DIVERGED", "INTERRUPTED", "LOST_RANK", "NOT_KEPT", "RESUME", "SUPERSEDED", "USER_ERROR"]

# A mistake of the user's, which is told in one line.
USER_ERROR = 2
# Another rank was lost (EX_UNAVAILABLE of sysexits.h).
LOST_RANK = 69
# The ranks no longer held the same parameters (EX_SOFTWARE).
DIVERGED = 70
# A device has failed, or the network under a library (EX_OSERR); `sngd resume` goes on, perhaps elsewhere.
DEVICE = 71
# Another start goes on in the run folder, this one has left it alone (EX_CANTCREAT).
SUPERSEDED = 73
# The last checkpoint could not be written (EX_IOERR).
NOT_KEPT = 74
# Stopped with a checkpoint, to be started again (EX_TEMPFAIL).
RESUME = 75
# Ctrl-C, as shells have it.
INTERRUPTED = 130
