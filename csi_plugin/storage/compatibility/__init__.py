"""cinderlib's names and its interface for persistence plugins."""
