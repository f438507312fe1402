"""Checks of streams' options; each error names what is allowed and what it got."""


def check_share(name: str, value: float) -> float:
    """Return a share of rows; raise ValueError unless it is 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be 0 to 1; got {value}")
    return value


def check_not_negative(name: str, value: float) -> float:
    """Return a number; raise ValueError unless it is 0 or more."""
    if not value >= 0:
        raise ValueError(f"{name} must be 0 or more; got {value}")
    return value


def check_count(name: str, value: int) -> int:
    """Return a number as an integer; raise ValueError unless it is one of 1 or more."""
    if int(value) != value or value < 1:
        raise ValueError(f"{name} must be an integer, 1 or more; got {value}")
    return int(value)
