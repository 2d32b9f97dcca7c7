"""The admin as this project has it, and what begins when all apps are ready."""

from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    default_site = "backend.admin.Site"

    def ready(self) -> None:
        super().ready()
        from . import logins, tracing

        logins.connect()
        tracing.start()
