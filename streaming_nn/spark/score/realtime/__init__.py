"""Scoring in Spark's real-time mode: a query of Spark's own, with a Java class that predicts each record."""
