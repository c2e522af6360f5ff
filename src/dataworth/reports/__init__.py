"""From a finished run folder to its report."""
