"""What a sweep says and how sure it is."""
