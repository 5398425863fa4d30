"""What a worker does beside delivering: it says that it is there, reads its accounts file again, tells the hook."""
