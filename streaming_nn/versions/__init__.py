"""What is true: the model directory is a log, one file a version, and nothing else is the truth."""
