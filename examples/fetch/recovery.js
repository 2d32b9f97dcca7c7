// Password recovery with fetch alone. Copy this file; `index.html` beside it shows a form that uses it.

const FAILURES = "__typename ... on Error { message } ... on RateLimitedError { retryAfter }";

export class Recovery {
  /** @param endpoint such as https://accounts.example.com/graphql/ */
  constructor(endpoint) {
    this.endpoint = endpoint;
  }

  /** Never says whether there is an account. Send the same key again after a lost answer: it mails nothing twice. */
  request(email, idempotencyKey) {
    return this.#ask(
      `mutation Request($input: RequestPasswordResetInput!) { requestPasswordReset(input: $input) { ${FAILURES}
        ... on RequestPasswordResetSuccess { reset { requestId matchPhrase resendAvailableAt } } } }`,
      { input: { email, idempotencyKey } },
    );
  }

  verify(requestId, code) {
    return this.#ask(
      `mutation Verify($input: VerifyPasswordResetCodeInput!) { verifyPasswordResetCode(input: $input) { ${FAILURES}
        ... on InvalidCodeError { attemptsLeft } ... on VerifyPasswordResetCodeSuccess { resetToken } } }`,
      { input: { requestId, code } },
    );
  }

  setPassword(resetToken, newPassword) {
    return this.#ask(
      `mutation SetPassword($input: ResetPasswordInput!) { resetPassword(input: $input) { ${FAILURES}
        ... on PasswordRejectedError { violations { code message } } ... on ResetPasswordSuccess { reset { status } } } }`,
      { input: { resetToken, newPassword } },
    );
  }

  async #ask(query, variables) {
    const response = await fetch(this.endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/graphql-response+json" },
      body: JSON.stringify({ query, variables }),
    });
    const { data, errors } = await response.json();
    if (!data) throw new Error(errors[0].message);
    return Object.values(data)[0];
  }
}

/** 128 random bits; `crypto.randomUUID` needs HTTPS. */
export function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
