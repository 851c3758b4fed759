"""Adapters: fine-tuning by few parameters, one per module."""
