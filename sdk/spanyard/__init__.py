"""What applications import: spans, logs, metrics and scores as span files."""
