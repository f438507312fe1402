"""The exit codes after which a run must not be restarted: it would end the same way."""

from streaming_nn import errors

WRONG_SETTING = 2
OF_ERRORS = {
    error.exit_code
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.StreamingNNError)
} - {errors.StreamingNNError.exit_code}
FINAL = {WRONG_SETTING, *OF_ERRORS}
