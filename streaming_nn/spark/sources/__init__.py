"""Where the records of a training job come from."""
