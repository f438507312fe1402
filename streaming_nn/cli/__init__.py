"""The commands of `streaming-nn`, one module each."""
