"""What a record holds: the bytes of a Kafka record to rows of features and labels, and back."""
