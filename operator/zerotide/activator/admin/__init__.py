"""Health, readiness, metrics and the demand stream, on a port that no request can reach by its host or path."""
