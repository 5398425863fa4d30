"""The lines of the table, each in a module."""
