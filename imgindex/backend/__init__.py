"""Django's Postgres backend on the embedded server: `"ENGINE": "imgindex.backend"`."""
