"""The app: connects the doorbell and registers the checks."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Account recovery"

    def ready(self) -> None:
        from accounts import checks, failover, logins, receivers

        checks.register()
        receivers.connect()
        logins.connect()
        failover.connect()
