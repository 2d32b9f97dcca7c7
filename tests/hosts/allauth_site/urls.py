from account_recovery.api import EXCEPTION_HANDLERS, EXTENSIONS, GraphQLView, Mutation, Query, Schema
from allauth.account.models import EmailAddress
from django.contrib import admin
from django.http import JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

schema = Schema(query=Query, mutation=Mutation, extensions=EXTENSIONS, exception_handlers=EXCEPTION_HANDLERS)


@csrf_exempt
def sign_in(request):
    user = EmailAddress.objects.get(email=request.POST["email"]).user
    return JsonResponse({"welcome": user.check_password(request.POST["password"])})


urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("sign-in/", sign_in),
    path("graphql/", GraphQLView.as_view(schema=schema), name="graphql"),
    path("recovery/", include("account_recovery.urls")),
]
