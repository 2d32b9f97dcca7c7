"""Where everything is."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from backend.graphiql import graphql_view

urlpatterns = [
    # With and without the slash: a redirected POST would lose its body.
    re_path(r"^graphql/?$", graphql_view, name="graphql"),
    path("", include("accounts.urls")),
]

if settings.ADMIN_ENABLED:
    # By this name Django's login page finds it, and offers it to whoever has forgotten the password.
    forgotten = RedirectView.as_view(pattern_name="account_recovery:reset")
    urlpatterns += [path("admin/forgotten/", forgotten, name="admin_password_reset"), path("admin/", admin.site.urls)]
# Developers are led to where they can ask, and people who are lost to what they most likely want.
if settings.GRAPHIQL:
    urlpatterns.append(path("", RedirectView.as_view(url="/graphql/")))
else:
    urlpatterns.append(path("", RedirectView.as_view(pattern_name="account_recovery:reset")))
if settings.DEBUG:
    from backend.inbox import inbox  # its package is there in development alone

    urlpatterns += [path("inbox.json", inbox, name="inbox"), path("inbox/", include("django_mail_preview.urls"))]
