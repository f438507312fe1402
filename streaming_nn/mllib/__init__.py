"""The model behind Spark ML's API."""
