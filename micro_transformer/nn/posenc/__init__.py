"""Positional encodings, one per module."""
