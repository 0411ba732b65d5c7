"""Searches of a trained supernet, and strategies side by side."""
