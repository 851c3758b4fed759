"""Attention patterns, one per module: masks in addition to causality and padding."""
