"""Build the project's images without Docker, and load them into a local cluster."""
