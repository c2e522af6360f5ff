"""Running a proof: whose rows, which arms, whose trainer, trials, and what they say at each look."""
