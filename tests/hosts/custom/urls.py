from account_recovery.api import EXCEPTION_HANDLERS, EXTENSIONS, GraphQLView, Mutation, Query, Schema
from django.http import JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from people.models import Person

schema = Schema(query=Query, mutation=Mutation, extensions=EXTENSIONS, exception_handlers=EXCEPTION_HANDLERS)


@csrf_exempt
def sign_in(request):
    person = Person.objects.get(mail=request.POST["email"])
    facts = {"saves": person.saves, "changes": person.change_set.count()}
    return JsonResponse({"welcome": person.check_password(request.POST["password"]), **facts})


urlpatterns = [
    path("sign-in/", sign_in),
    path("graphql/", GraphQLView.as_view(schema=schema), name="graphql"),
    path("recovery/", include("account_recovery.urls")),
]
