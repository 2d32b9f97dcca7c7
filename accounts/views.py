"""What is not GraphQL: the page where a mailed link leads when no frontend has its own, and the server's health."""

from datetime import timedelta

from django.db import Error, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .conf import conf
from .limits import counter, rules
from .models import ForgetPassword

RESET_PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
BEHIND_SECONDS = 60
"""How long, besides a sweep's own pause, a request may wait to be looked at before that is worth a word."""


@require_safe
def reset_page(request: HttpRequest) -> HttpResponse:
    """The page behind the mailed link, whose token stays in the fragment: no GET brings it here, and none spends it.

    Some mail programs encode the `#`, and then it does come here, in the path. It is not looked at: the page's script
    takes it from there, as it does from the fragment.
    """
    response = render(request, "account_recovery/reset.html")
    response["Content-Security-Policy"] = RESET_PAGE_CSP
    response["Cache-Control"] = "no-store"
    return response


@never_cache
@require_safe
def health(request: HttpRequest) -> HttpResponse:
    """Whether this server can serve: 200 `ok` or `degraded`, or 503 `unavailable` without its database.

    Anybody may ask, so it tells nothing that only a known address changes, as the mails that are due would. Look takes
    every row alike; how long it is behind tells that no mailer runs, or that the mail server is down.
    """
    counted = counter.backend_in_use()
    try:
        oldest = ForgetPassword.objects.not_looked().values_list("created_at", flat=True).first()
    except Error:
        connections.close_all()
        facts = {"status": "unavailable", "database": "unavailable", "limits": counted}
        return JsonResponse(facts, status=503)
    patience = timedelta(seconds=BEHIND_SECONDS + conf.MAIL_SWEEP_SECONDS)
    mailer = "ok" if oldest is None or timezone.now() - oldest < patience else "behind"
    codes = "ok" if rules.codes_are_served() else "stopped"
    fine = mailer == codes == "ok" and counted != counter.FALLEN_BACK
    return JsonResponse(
        {
            "status": "ok" if fine else "degraded",
            "database": "ok",
            "limits": counted,
            "mailer": mailer,
            "codes": codes,
        }
    )
