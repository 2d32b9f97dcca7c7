from django.apps import AppConfig
from django.db.models.signals import post_save


class PeopleConfig(AppConfig):
    name = "people"

    def ready(self):
        post_save.connect(note, "people.Person", dispatch_uid="people.note")


def note(instance, created, **kwargs):
    from .models import Change

    if not created:
        Change.objects.create(person=instance)
