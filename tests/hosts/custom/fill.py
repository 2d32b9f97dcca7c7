from django.utils import timezone
from people.models import Person

for name, more in {
    "Ada": {},
    "bob": {"deleted_at": timezone.now()},
    "eve": {"closed_at": timezone.now()},
}.items():
    person = Person(mail=f"{name}@example.com", **more)
    person.set_password("umbrella-cactus-violin-91")
    person.save()
