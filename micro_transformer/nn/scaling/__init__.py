"""RoPE scalings that extend a trained net to longer texts, one per module."""
