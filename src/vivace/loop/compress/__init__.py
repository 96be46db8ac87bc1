"""Compression in the loop: carry out plans, measure each step, search for the plan that meets goals, tell it."""
