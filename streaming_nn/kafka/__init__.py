"""Kafka: client options for Java and Python, an admin client, an embedded broker, and the jars of both."""

EMBEDDED = "broker"  # the embedded broker's directory, unless --dir names another one
