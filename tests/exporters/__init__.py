"""Tests of where telemetry goes."""
