"""Every error of the package that a caller can catch, each with the exit code that the command ends with.

Anything else that is wrong with an argument, a setting or a record is a built-in exception: ValueError (exit
code 2), LookupError, ConnectionError, OSError or RuntimeError (1). A supervisor must not restart a run that
ended with a code of 3 or more: it would end the same way.
"""

from typing import Any


class StreamingNNError(Exception):
    """Base class of the errors in this module."""

    exit_code = 1


class VersionConflictError(StreamingNNError, RuntimeError):
    """Another writer committed this version number first. `manifest` is the winner's; None: unreadable."""

    exit_code = 3

    def __init__(self, message: str, number: int, manifest: Any = None) -> None:
        super().__init__(message)
        self.number = number
        self.manifest = manifest


class DataLossError(StreamingNNError, RuntimeError):
    """Records that the model has not learned are no longer in the topic; the message names them."""

    exit_code = 4


class TooManyRejectedError(StreamingNNError, RuntimeError):
    """Too many records of a micro-batch were rejected; the run stopped, and no version holds the batch."""

    exit_code = 5


class TooManySkippedError(StreamingNNError, RuntimeError):
    """No step was finite in too many micro-batches in a row; the run stopped."""

    exit_code = 5


class DamagedVersionError(StreamingNNError, ValueError):
    """A version's file is not what was written; the message names the file and what is wrong with it."""

    exit_code = 6


class DeadLetterError(StreamingNNError, RuntimeError):
    """A rejected record could not be recorded: the dead-letter topic rejects it even when truncated.

    The message names the limit or the right that is missing; no version holds the micro-batch.
    """

    exit_code = 7


class UnreadableRecordError(StreamingNNError, RuntimeError):
    """A record cannot be read by Spark, so it can be neither learned nor predicted nor recorded."""

    exit_code = 7


def exit_code(error: BaseException) -> int:
    """Return the exit code of a command that ends with this error."""
    if isinstance(error, StreamingNNError):
        return error.exit_code
    return 2 if isinstance(error, ValueError) else 1
