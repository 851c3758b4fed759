"""One module per corpus: its sources, how they are read, and how the text is split without
leaks."""
