"""Takes grants where work is due, sends them, and settles them."""
