"""Key-value caches, one a module."""
