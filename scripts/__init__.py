"""What builds and measures the project, and is not installed with it."""
