"""Named points at which a test lets a job die or sleep; off unless STREAMING_NN_FAULT names one."""

import os
import signal

# of the trainer's micro-batch, in their order
POINTS = ("batch-begun", "learned", "dead-letters-sent", "before-append", "appended")
ANSWERED = "answered"  # of the scorer's: it has sent its answers, and Spark has not noted that yet


def point(name: str) -> None:
    """Kill this process, as hard as a power cut, if the point is the one that the environment names.

    STREAMING_NN_FAULT is `name`, `name:n` for the n-th time that this process comes by, or `name:n:SIGSTOP`
    for another signal than SIGKILL.
    """
    wanted, times, number = f"{os.environ.get('STREAMING_NN_FAULT', '')}::".split(":")[:3]
    if wanted != name:
        return
    left = int(times or 1) - 1
    os.environ["STREAMING_NN_FAULT"] = f"{name}:{left}:{number}"
    if left == 0:
        os.kill(os.getpid(), signal.Signals[number or "SIGKILL"])
