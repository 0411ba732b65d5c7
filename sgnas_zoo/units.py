"""Amounts as people write them: 350M, 20ms."""
