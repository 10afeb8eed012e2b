"""The broker: a torch-free daemon that owns clients, jobs, journals and the worker."""
