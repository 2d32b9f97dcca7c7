from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User

ada = User.objects.create_user("ada", "unproven@example.com", "umbrella-cactus-violin-91")
for address, proven in {"unproven": False, "ada": True, "ada.second": True}.items():
    EmailAddress.objects.create(user=ada, email=f"{address}@example.com", verified=proven, primary=address == "ada")

bob = User.objects.create_user("bob")
EmailAddress.objects.create(user=bob, email="bob@example.com", verified=True, primary=True)
SocialAccount.objects.create(user=bob, provider="dummy", uid="1")
