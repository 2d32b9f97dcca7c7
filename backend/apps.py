"""The admin as this project has it."""

from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    default_site = "backend.admin.Site"

    def ready(self) -> None:
        super().ready()
        from . import logins

        logins.connect()
