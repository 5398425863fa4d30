"""Measurements.

``make bench`` compares (ADR 26). :mod:`benchmarks.promises` measures what happens in trouble.
"""
