"""The demo: broker, producer, trainer, scorer, a live table, and a verified replay."""
