"""Topics read by our own Java classes, many records per Spark row, ahead of the tasks."""
