"""Measures, tables and the HTML report of a run, for people to read."""
