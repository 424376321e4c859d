"""The parts of `make bench-ledger`."""
