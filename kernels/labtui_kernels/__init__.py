"""The background process that holds a model: language, specs, protocol, broker, worker and engine."""
