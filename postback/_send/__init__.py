"""How an event gets into Redis."""
