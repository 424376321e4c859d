"""From nothing to an answering model, and back: what `make up`, `make down` and `make env` run. Stdlib only."""
