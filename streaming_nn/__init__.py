"""Neural networks that learn online on Apache Spark."""

__version__ = "0.1.0"
