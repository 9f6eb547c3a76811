"""Backends side by side: the same pictures, taken in turns, each backend in a process of its own."""
