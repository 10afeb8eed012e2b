"""Pictures to experiment on: colour words in inks, and scenes of shapes. Pillow and NumPy only."""
