"""Causes of failures that only one layer can have, each shown by calling the implementation again."""
