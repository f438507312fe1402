"""Named points at which a test lets the trainer die; off unless STREAMING_NN_FAULT names one."""

import os
import signal

POINTS = (
    "batch-begun",
    "learned",
    "dead-letters-sent",
    "before-append",
    "appended",
)


def point(name: str) -> None:
    """Kill this process, as hard as a power cut, if the point is the one that the environment names.

    STREAMING_NN_FAULT is `name` or `name:n` for the n-th time that this process comes by.
    """
    wanted, _, times = os.environ.get("STREAMING_NN_FAULT", "").partition(":")
    if wanted != name:
        return
    left = int(times or 1) - 1
    os.environ["STREAMING_NN_FAULT"] = f"{name}:{left}"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
