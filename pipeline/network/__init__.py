"""The embedding network and how it learns."""
