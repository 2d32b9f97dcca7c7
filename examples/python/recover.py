"""Password recovery from Python, with the package gql: python recover.py https://accounts.example.com/graphql/ EMAIL"""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import Any

from gql import Client, gql
from gql.transport.requests import RequestsHTTPTransport

REQUEST = gql("""
mutation Request($input: RequestPasswordResetInput!) {
  requestPasswordReset(input: $input) {
    ... on RequestPasswordResetSuccess { reset { requestId matchPhrase } }
    ... on Error { message }
  }
}""")
VERIFY = gql("""
mutation Verify($input: VerifyPasswordResetCodeInput!) {
  verifyPasswordResetCode(input: $input) {
    ... on VerifyPasswordResetCodeSuccess { resetToken }
    ... on Error { message }
  }
}""")
SET_PASSWORD = gql("""
mutation SetPassword($input: ResetPasswordInput!) {
  resetPassword(input: $input) {
    ... on ResetPasswordSuccess { reset { status } }
    ... on PasswordRejectedError { violations { message } }
    ... on Error { message }
  }
}""")


def main(endpoint: str, email: str) -> None:
    client = Client(transport=RequestsHTTPTransport(endpoint, timeout=30))

    def send(mutation: Any, **values: Any) -> dict[str, Any]:
        mutation.variable_values = {"input": values}
        (answer,) = client.execute(mutation).values()
        if "message" in answer:
            sys.exit(" ".join([answer["message"], *(each["message"] for each in answer.get("violations", []))]))
        return dict(answer)

    # One key for one intention: whoever sends it again after a lost answer has nobody mailed twice.
    key = secrets.token_urlsafe(16)
    reset = send(REQUEST, email=email, idempotencyKey=key)["reset"]
    print(f"If there is an account, an email with these two words is on its way: {reset['matchPhrase']}")
    token = send(VERIFY, requestId=reset["requestId"], code=input("Code from the email: "))["resetToken"]
    send(SET_PASSWORD, resetToken=token, newPassword=getpass.getpass("New password: "))
    print("Password changed.")


if __name__ == "__main__":
    main(*sys.argv[1:])
