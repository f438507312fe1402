"""Kafka read for learning by Java of ours, many records in a row, past what a row costs Spark."""
