"""What an event is: its fields, how they are checked, what the provider gets."""
