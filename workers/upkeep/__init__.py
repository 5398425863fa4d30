"""A worker's work beside delivery: its heartbeat, its accounts file, the hook for dead letters."""
