"""A message of several lines: what is wrong, then what explains it."""

NEXT = "\n  "  # between two lines
