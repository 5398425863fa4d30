"""What tests of several rooms need, and nobody else."""
