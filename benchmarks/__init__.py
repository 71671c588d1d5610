"""What this SDK costs, against hand-written code: `python -m benchmarks` prints the table."""
