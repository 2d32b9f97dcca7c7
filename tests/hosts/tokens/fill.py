from django.contrib.auth.models import User

for name in ("ada", "bob", "cleo", "dan", "eve", "finn"):
    User.objects.create_user(name, f"{name}@example.com", "umbrella-cactus-violin-91")
