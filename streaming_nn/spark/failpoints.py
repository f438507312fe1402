"""Named points at which a test can kill or stop a job; off unless STREAMING_NN_FAILPOINT names one."""

import os
import signal

VARIABLE = "STREAMING_NN_FAILPOINT"

# of the trainer's micro-batch, in their order
POINTS = ("batch-started", "learned", "dead-letters-sent", "before-commit", "committed")
PREDICTIONS_SENT = "predictions-sent"  # of the scorer's: Spark has not recorded the micro-batch yet
RAISE = "raise"


class SimulatedCrash(Exception):  # noqa: N818 (it stands for a crash, which is not an error)
    """Raised at a failpoint for a test that continues in the same process."""


def reach(name: str) -> None:
    """Kill this process, like a power failure, if the environment names this point.

    STREAMING_NN_FAILPOINT is `name`, or `name:n` for the n-th time that this process reaches it, or
    `name:n:SIGSTOP` for another signal than SIGKILL; `name:n:raise` raises SimulatedCrash.
    """
    point, times, action = f"{os.environ.get(VARIABLE, '')}::".split(":")[:3]
    if point != name:
        return
    left = int(times or 1) - 1
    os.environ[VARIABLE] = f"{name}:{left}:{action}"
    if left:
        return
    if action == RAISE:
        raise SimulatedCrash(name)
    os.kill(os.getpid(), signal.Signals[action or "SIGKILL"])
