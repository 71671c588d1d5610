"""Long runs against a server that fails in every way, to find what leaks."""
