"""What a written subset is accompanied by: the dataset card."""
