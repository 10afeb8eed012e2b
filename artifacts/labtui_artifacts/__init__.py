"""Safetensors artifacts: kinds, header schema, store and exchange with other tools."""
