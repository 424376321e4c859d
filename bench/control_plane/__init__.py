"""The operator with many endpoints: fake nodes, the endpoints, what it costs, and many wakes at once."""
