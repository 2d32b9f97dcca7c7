import bcrypt
from account_recovery.api import EXCEPTION_HANDLERS, EXTENSIONS, GraphQLView, Mutation, Query, Schema
from django.contrib import admin
from django.http import JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from people.models import Person

schema = Schema(query=Query, mutation=Mutation, extensions=EXTENSIONS, exception_handlers=EXCEPTION_HANDLERS)


@csrf_exempt
def sign_in(request):
    """As the other system does it."""
    hashed = Person.objects.get(email=request.POST["email"]).encrypted_password
    return JsonResponse({"welcome": bcrypt.checkpw(request.POST["password"].encode()[:72], hashed.encode())})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("sign-in/", sign_in),
    path("graphql/", GraphQLView.as_view(schema=schema), name="graphql"),
    path("recovery/", include("account_recovery.urls")),
]
