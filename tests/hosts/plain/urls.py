from account_recovery.api import GraphQLView
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.transaction import non_atomic_requests
from django.http import JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from schema import schema
from strawberry.django import views


@csrf_exempt
def sign_in(request):
    user = User.objects.get(email=request.POST["email"])
    return JsonResponse({"welcome": user.check_password(request.POST["password"])})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("sign-in/", sign_in),
    path("graphql/", GraphQLView.as_view(schema=schema), name="graphql"),
    path("stock/", csrf_exempt(views.GraphQLView.as_view(schema=schema))),
    path("async/", non_atomic_requests(csrf_exempt(views.AsyncGraphQLView.as_view(schema=schema)))),
    path("recovery/", include("account_recovery.urls")),
]
