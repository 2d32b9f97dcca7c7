"""The whole way, as a frontend and a person go it."""

from typing import Any

from tests.conftest import API, NEW_PASSWORD, PASSWORD, PostOffice


def test_a_code_buys_a_token_and_the_token_sets_the_password(api: API, post: PostOffice, user: Any) -> None:
    reset = api.request("ada@example.com")
    assert reset["status"] == "QUEUED"

    letter = post.deliver_one()
    sent = api.status(reset["requestId"])
    assert sent is not None
    assert sent["status"] == "SENT"
    assert sent["matchPhrase"] in letter.text

    verified = api.verify(reset["requestId"], letter.code)
    assert verified["reset"]["status"] == "VERIFIED"

    done = api.reset(verified["resetToken"])
    assert done["reset"]["status"] == "COMPLETED"
    assert done["reset"]["isUserPasswordUpdated"] is True
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)
    assert not user.check_password(PASSWORD)
    assert "was changed" in post.deliver_one().text
