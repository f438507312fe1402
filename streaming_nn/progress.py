"""How far work is that takes long: what does it calls a function, which a command shows."""

from collections.abc import Callable

# Called with what is done ("checking versions"), how many of them are, and of how many; 0: nobody knows
Progress = Callable[[str, int, int], None]


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""
