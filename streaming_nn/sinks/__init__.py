"""Sinks for metrics: each gets the log's versions in order, keeps its position, and never blocks learning."""
