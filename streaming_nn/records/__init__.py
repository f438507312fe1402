"""Decode the bytes of Kafka records into rows of features and labels, and encode rows as records."""
