"""What follows the log: each reads versions in order, keeps its own place, and never stops learning."""
