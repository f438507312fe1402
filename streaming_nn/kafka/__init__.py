"""Kafka: client options for Java and Python, an admin client, an embedded broker, and the jars of both."""

TOPIC = "[a-zA-Z0-9._-]{1,249}"  # the names that Kafka accepts: a regular expression
EMBEDDED = "broker"  # the embedded broker's directory, unless --dir names another one
