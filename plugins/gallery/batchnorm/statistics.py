"""Faults of the statistics: mean, variance, running ones, and eval mode."""
