"""The job that trains."""
