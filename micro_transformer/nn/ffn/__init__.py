"""Feed-forward networks, one a module."""
