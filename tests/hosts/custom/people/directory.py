from account_recovery.directory import Directory


class People(Directory):
    def accounts(self):
        return super().accounts().filter(deleted_at=None)
