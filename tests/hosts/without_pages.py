"""URLs of a project that serves the API alone, for a frontend with a page of its own."""

from django.urls import path

from backend.graphiql import graphql_view

urlpatterns = [path("graphql/", graphql_view, name="graphql")]
