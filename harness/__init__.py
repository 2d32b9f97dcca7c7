"""Servers that tests, benchmarks and drills share, and the one way to start them."""
