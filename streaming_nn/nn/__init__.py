"""What is learned: networks, optimizers, metrics. NumPy only: no Spark, no Kafka, no clock, no files."""
