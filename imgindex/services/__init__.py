"""One function per use case, the same from a view, a command and a shell."""
