"""Measurements, as ratios within one run. `make bench` runs them all; each module also runs alone."""
