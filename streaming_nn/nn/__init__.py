"""What is learned: learners, metrics, drift. NumPy and the core only, no Spark, Kafka, clock or files."""
