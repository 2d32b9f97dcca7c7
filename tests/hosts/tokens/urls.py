from datetime import timedelta

from account_recovery.api import EXCEPTION_HANDLERS, EXTENSIONS, GraphQLView, Mutation, Query, Schema
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import JsonResponse
from django.urls import include, path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from knox.models import AuthToken
from oauth2_provider.models import AccessToken, Application, Grant, RefreshToken
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.tokens import RefreshToken as Refresh

schema = Schema(query=Query, mutation=Mutation, extensions=EXTENSIONS, exception_handlers=EXCEPTION_HANDLERS)
refresh: dict[str, str] = {}


@csrf_exempt
def give(request):
    """One token of each kind."""
    user = User.objects.get(email=request.POST["email"])
    soon = timezone.now() + timedelta(hours=1)
    refresh[user.email] = str(Refresh.for_user(user))
    AuthToken.objects.create(user)
    Token.objects.get_or_create(user=user)
    app, _ = Application.objects.get_or_create(name="app", client_type="public", authorization_grant_type="password")
    access = AccessToken.objects.create(user=user, application=app, token=f"a{user.pk}", expires=soon)
    RefreshToken.objects.create(user=user, application=app, token=f"r{user.pk}", access_token=access)
    Grant.objects.create(user=user, application=app, code=f"g{user.pk}", expires=soon, redirect_uri="https://a.example")
    session = SessionStore()
    session.create()
    UserSession.objects.create(user=user, session_key=session.session_key, ip="127.0.0.1")
    return JsonResponse({})


@csrf_exempt
def sign_in(request):
    """Whether the password is right, and how many tokens of each kind still work."""
    user = User.objects.get(email=request.POST["email"])
    try:
        jwt = bool(Refresh(refresh[user.email])) if user.email in refresh else False
    except TokenError:
        jwt = False
    works = {
        "simplejwt": int(jwt),
        "knox": AuthToken.objects.filter(user=user).count(),
        "drf": Token.objects.filter(user=user).count(),
        "access": AccessToken.objects.filter(user=user).count(),
        "refresh": RefreshToken.objects.filter(user=user, revoked=None).count(),
        "grant": Grant.objects.filter(user=user).count(),
        "sessions": sum(SessionStore().exists(each.session_key) for each in UserSession.objects.filter(user=user)),
    }
    return JsonResponse({"welcome": user.check_password(request.POST["password"]), "works": works})


urlpatterns = [
    path("give/", give),
    path("sign-in/", sign_in),
    path("graphql/", GraphQLView.as_view(schema=schema), name="graphql"),
    path("recovery/", include("account_recovery.urls")),
]
