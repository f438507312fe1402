"""How Kafka is reached: one place for a client's options, an embedded broker, and the jars of both."""
