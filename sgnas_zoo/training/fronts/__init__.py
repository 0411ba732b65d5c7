"""Fronts: networks over the range of a cost (``plan``), what is known of them (``verticals``), and ``files``."""
