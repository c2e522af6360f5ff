"""One file per score: pure functions of named inputs, one number per row."""
