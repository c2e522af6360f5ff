"""Arms of trials compared: what may be claimed, how sure, and what a budget can detect."""
