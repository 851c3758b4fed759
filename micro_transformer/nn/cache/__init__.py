"""Key-value caches, one per module."""
