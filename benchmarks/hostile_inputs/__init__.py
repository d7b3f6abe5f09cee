"""Hostile inputs by their kind, for ``benchmarks/hostile.py``: a file a kind or two, each with a function ``cases``."""
