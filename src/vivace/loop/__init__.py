"""Which stages to run or skip, and what they came to."""
