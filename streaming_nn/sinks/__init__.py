"""Sinks for metrics: each gets the log's versions in order, keeps its position, and never blocks learning.

A new one has the methods of `sink.Sink`; `cli/train.py` opens those that the settings name.
"""
