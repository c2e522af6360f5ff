"""Faces of results: the terminal and JSON. Views read results and never run anything."""
