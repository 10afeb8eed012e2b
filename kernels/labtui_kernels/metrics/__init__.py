"""Numbers about a generated row. A metric that cannot be computed is absent with a reason, never zero."""
