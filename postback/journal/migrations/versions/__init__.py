"""The versions, one after another."""
