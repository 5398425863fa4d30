"""The lines of the table, each in a module: DESIGN.md's section 6."""
