"""Ratios between Signup and plain references, measured on one machine in one run. Start it with bin/bench."""
