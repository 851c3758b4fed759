"""Attention patterns, one a module: who may look at whom, beside causality and padding."""
