"""Mailing: from the signal of a record to the mail server."""
