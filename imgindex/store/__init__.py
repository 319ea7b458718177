"""The only ORM and SQL code, and the storage of files."""
