"""One address for each peer."""

from __future__ import annotations

import json

import strawberry
from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from strawberry.django.views import GraphQLView

from .models import Bare, ForgetPassword, new_otp


@csrf_exempt
def floor(request: HttpRequest) -> JsonResponse:
    """The least that a request can cost that inserts a row."""
    row = Bare.objects.create(email=json.loads(request.body)["email"])
    return JsonResponse({"id": row.pk})


@csrf_exempt
def read(request: HttpRequest) -> JsonResponse:
    """The least that a request can cost that reads a row."""
    row = Bare.objects.get(pk=json.loads(request.body)["id"])
    return JsonResponse({"email": row.email, "createdAt": row.created_at.isoformat()})


@strawberry.type
class Query:
    @strawberry.field
    def updated(self, pk: int) -> bool:
        return ForgetPassword.objects.get(pk=pk).is_user_password_updated


@strawberry.type
class Mutation:
    @strawberry.mutation
    def forget_password(self, email: str) -> int:
        return ForgetPassword.objects.create(email=email, otp=new_otp()).pk


urlpatterns = [
    path("floor/", floor),
    path("read/", read),
    path("article/", csrf_exempt(GraphQLView.as_view(schema=strawberry.Schema(Query, Mutation)))),
]
if settings.PEER == "djoser":
    urlpatterns.append(path("auth/", include("djoser.urls")))
if settings.PEER == "allauth":
    urlpatterns.append(path("_allauth/", include("allauth.headless.urls")))
