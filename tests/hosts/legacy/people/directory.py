import bcrypt
from account_recovery.directory import Directory


class People(Directory):
    password_field = "encrypted_password"
    update_fields = ("encrypted_password",)

    def hash(self, password):
        return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(12, prefix=b"2a")).decode()

    def name_of(self, account):
        return account.name
