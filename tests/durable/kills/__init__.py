"""The kill suite: one set of tests, with real processes and real `kill -9`, for every engine."""
