"""Measurements: ``make bench`` compares (ADR 26), :mod:`benchmarks.promises` shows what happens when things go wrong."""
