"""Nearest neighbours by global descriptors, and geometric verification by local features."""
