"""Spark jobs: train on a stream, score another, and learn recorded versions again."""
