"""Tests of `pyagent_providers`."""
