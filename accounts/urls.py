"""The app's pages."""

from django.urls import path, re_path
from django.views.generic import RedirectView

from . import views

app_name = "account_recovery"
urlpatterns = [
    # With and without the slash: what probes a server does not follow redirects.
    re_path(r"^livez/?$", views.livez, name="livez"),
    re_path(r"^readyz/?$", views.readyz, name="readyz"),
    re_path(r"^health/?$", views.readyz, name="health"),
    path("metrics", views.metrics, name="metrics"),
    path("reset/", views.reset_page, name="reset"),
    path("reset/<slug:brand>/", views.reset_page, name="reset"),
    # As mail programs send it that encode the `#` of a mailed link, once or twice.
    re_path(r"^reset(?:/(?P<brand>[a-z0-9-]+))?/?(?:#|%(?:25)*23)", views.reset_page),
    # Where browsers and password managers look for the way to change a password (W3C).
    path(
        ".well-known/change-password",
        RedirectView.as_view(pattern_name="account_recovery:reset"),
        name="change-password",
    ),
]
