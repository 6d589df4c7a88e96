"""Measurements that no test asserts, and the tuning of settings."""
