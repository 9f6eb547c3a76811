"""Trains and exports the demo model, a small detector of handwritten digits."""
