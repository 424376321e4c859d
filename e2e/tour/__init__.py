"""Write docs/tour.md from the real output of real commands: `python3 -m e2e.tour`. Stdlib only."""
