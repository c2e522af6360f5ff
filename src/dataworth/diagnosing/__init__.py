"""A diagnosis run: pilots are planned within a budget, trained and measured, and read as answers."""
