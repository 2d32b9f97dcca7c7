"""Telling others: what must end when a password changes, and the events that leave by HTTP."""
