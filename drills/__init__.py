"""Failure drills: under load, one part after another is killed, and then the mails are counted. See docs/drills.md."""
