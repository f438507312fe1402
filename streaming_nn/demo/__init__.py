"""The demo: broker, producer, trainer, scorer, a live table, and the proof."""
