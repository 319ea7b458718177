"""The API of our own, `/v3`."""
