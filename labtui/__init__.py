"""labtui: what a person touches: the app, the command line and the Python client. Never imports torch."""
