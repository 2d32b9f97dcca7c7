"""Judging: which new passwords are accepted, and how they are hashed."""
