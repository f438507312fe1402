"""Producers: send datasets, files and generated streams with drift to topics."""
