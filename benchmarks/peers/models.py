"""The article's record, and the one of the bare views."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.mail import send_mail
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver


class Bare(models.Model):
    """What the floor inserts, and the bare read reads."""

    email = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.email


class ForgetPassword(models.Model):
    """The article's: the code stands in the table, and the signal mails it."""

    email = models.CharField(max_length=254)
    otp = models.CharField(max_length=6)
    is_user_password_updated = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.email


@receiver(post_save, sender=ForgetPassword)
def mail_the_code(instance: ForgetPassword, created: bool, **kwargs: Any) -> None:
    """Mail from a thread, and wait for it, as the article's sample does."""
    if created:
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(send_mail, "Your code", f"Your code is {instance.otp}.", None, [instance.email])


def new_otp() -> str:
    return f"{random.randrange(10**6):06}"  # nosec B311 # noqa: S311 (the article's way)
