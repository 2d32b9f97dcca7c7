"""The app: connects the doorbell and registers the checks."""

from django.apps import AppConfig


class AccountRecoveryConfig(AppConfig):
    # The wheel's package has another name than this folder.
    name = __name__.rpartition(".")[0]
    label = "account_recovery"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Account recovery"

    def ready(self) -> None:
        from . import checks
        from .mailing import receivers

        checks.register()
        receivers.connect()
