"""What is in Redis, for producers, workers and operators alike."""
