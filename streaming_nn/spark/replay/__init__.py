"""Replays of recorded versions: verify and backtest."""
