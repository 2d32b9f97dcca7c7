"""Counting: what a client and an address may do, and how often."""
