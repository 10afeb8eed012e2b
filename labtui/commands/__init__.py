"""The commands, one a module; each exposes ``command``."""
