"""Browse the index in the Django admin."""
