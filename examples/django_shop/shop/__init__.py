"""A shop that reports its sales."""
