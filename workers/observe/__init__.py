"""Shows a worker's work to others: its log, its rows in Flower, its metrics."""
