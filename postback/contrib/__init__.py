"""Postback inside web frameworks; nothing here is imported unless asked for."""
