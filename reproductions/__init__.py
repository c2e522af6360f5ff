"""Each headline claim as one resumable command with its sizes as arguments; results are kept as JSON."""
