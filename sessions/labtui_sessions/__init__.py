"""Sessions: events, journal, reducer, bundles and replay."""
