"""The core: decoding, fingerprints and exact indexes, without framework, network or database."""
