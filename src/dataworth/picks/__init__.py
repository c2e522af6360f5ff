"""One file per picking rule: pure functions of named inputs and a budget -> selection, a reason for every row."""
