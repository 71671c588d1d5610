"""The viewer: runs as spans in one SQLite store, and pages that read only that store."""
