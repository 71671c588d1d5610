"""What holds for every run, whatever its plan, its models and its luck."""
