from allauth.account.models import EmailAddress
from django.contrib.auth.models import User

ada = User.objects.create_user("ada", "unproven@example.com", "umbrella-cactus-violin-91")
for address, proven in {"unproven": False, "ada": True, "ada.second": True}.items():
    EmailAddress.objects.create(user=ada, email=f"{address}@example.com", verified=proven, primary=address == "ada")
