"""The query language: from a text to a tree, to SQL, and to a test of live records."""
