"""What others see of a worker: its log, its rows in Flower, its metrics."""
