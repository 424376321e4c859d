"""What runs Zerotide for real: a local cluster, the tools and images that it needs, and the end-to-end tests."""
