"""The order in which records are learned."""

# Always, by every reader, so that a replay has the same bits.
ORDER = ("timestamp", "topic", "partition", "offset")
