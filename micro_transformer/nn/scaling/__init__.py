"""Ways to stretch a trained RoPE to longer texts, one a module."""
