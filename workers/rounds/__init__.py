"""Asks for grants where there may be work, and hands them on."""
