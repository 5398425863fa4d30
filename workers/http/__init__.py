"""Sends HTTP requests."""
