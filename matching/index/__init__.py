"""Exact Hamming-distance indexes. `base.py` says what an index is; import an engine from its own file."""
