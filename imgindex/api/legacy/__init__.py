"""The documents without a version in their paths: 000 image tools, 002 image comparison, 003 image search engine."""
