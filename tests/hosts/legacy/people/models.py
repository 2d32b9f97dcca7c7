"""The table of another system, which makes and deletes its rows."""

from django.db import models


class Person(models.Model):
    email = models.TextField()
    encrypted_password = models.TextField(null=True)
    name = models.TextField()

    class Meta:
        managed = False
        db_table = "people"
