"""The jobs that score."""
