"""The one application of the site."""

from django.urls import include, path

urlpatterns = [path("newsletter/", include("newsletter.urls"))]
