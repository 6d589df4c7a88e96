"""Photographs to vectors."""
