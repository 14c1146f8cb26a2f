"""Tests of Backproof itself."""
