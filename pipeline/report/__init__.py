"""Answers to something that a person reads."""
