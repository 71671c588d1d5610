"""What happens when things fail, take too long or cost too much."""
