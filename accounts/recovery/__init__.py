"""Deciding: the use cases of a reset, the tokens they believe, and the report of one that was not asked for."""
