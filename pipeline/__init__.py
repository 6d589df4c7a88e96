"""Cairn: landmark retrieval and recognition, from photographs to submissions."""
