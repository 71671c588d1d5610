"""What runs and calls emit."""
