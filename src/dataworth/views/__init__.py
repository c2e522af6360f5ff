"""Faces of results: the terminal, JSON and one HTML page. Views read results and never run anything."""
