"""People who sign in by their address; who has left is kept, and may not come back."""

import os
import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models, transaction
from django.utils import timezone


class AnyCase(models.TextField):
    """CITEXT, where the database has it."""

    def db_type(self, connection):
        return "citext" if "CITEXT" in os.environ else super().db_type(connection)


class Person(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    mail = AnyCase(unique=True)
    closed_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(auto_now=True)
    saves = models.PositiveIntegerField(default=0)

    objects = BaseUserManager()

    EMAIL_FIELD = USERNAME_FIELD = "mail"

    @property
    def is_active(self):
        return self.closed_at is None

    def save(self, *args, **kwargs):
        assert self._state.adding or transaction.get_connection().in_atomic_block
        self.saves += 1
        super().save(*args, **kwargs)


class Change(models.Model):
    """A line for each save of a person, written by a receiver."""

    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    at = models.DateTimeField(default=timezone.now)
