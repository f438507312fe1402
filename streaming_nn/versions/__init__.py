"""The model directory: a log of versions, one file a version, from which all other state is derived."""
