"""How requests go out."""
