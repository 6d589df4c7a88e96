"""Neighbours and labels to answers."""
