"""Tests against a real Slurm in one box."""
