"""Positional encodings, one a module."""
