"""Attention kernels: implementations of softmax(q·k) v, one per module."""
