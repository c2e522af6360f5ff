"""Dataworth: which training examples are worth training on, for this model and this goal."""
