"""Secrets reach nothing that leaves the process or is kept."""
