"""Feed-forward networks, one per module."""
