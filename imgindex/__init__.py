"""imgindex: a persistent near-duplicate image search service."""
