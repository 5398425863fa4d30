"""Measurements behind the figures in the README: each against what it replaces, interleaved, printed as ratios."""
