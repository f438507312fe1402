"""Spark jobs: train on a stream, score another, and replay recorded versions."""
