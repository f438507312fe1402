"""Where it flows: the Spark jobs that learn, answer and replay."""
