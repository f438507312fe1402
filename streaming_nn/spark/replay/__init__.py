"""Recorded versions, learned again: verify and backtest."""
