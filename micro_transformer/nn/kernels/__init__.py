"""Attention kernels: softmax(q·k) v in several ways, one a module."""
