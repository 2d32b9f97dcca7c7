// The tabs GraphiQL opens with: one whole reset, in the order in which a person meets its steps. A tab is titled by its
// operation's name. The editor doesn't wrap, so comments stay within 52 columns, what a small laptop shows.

// Stand in the variables until an answer replaces them, see answers.js.
export const NO_REQUEST_ID = "run RequestReset first";
export const NO_RESET_TOKEN = "run VerifyCode first";

const NEW_PASSWORD = "umbrella-cactus-violin-91";

const example = (query, variables) => ({
  query: query.trim(),
  variables: variables && JSON.stringify(variables, null, 2),
});

export const examples = [
  example(`
# 1. The pink button, or Ctrl+Enter, runs a tab.
# Go through the tabs from left to right.
#
# This one asks for the rules: how long a code is
# and lives, what a new password must satisfy.
query PasswordPolicy {
  passwordPolicy {
    codeLength
    codeLifetimeSeconds
    linkLifetimeSeconds
    tokenLifetimeSeconds
    cooldownSeconds
    minPasswordLength
    maxPasswordLength
    rules
  }
}
`),

  example(
    `
# 2. Ask for a reset of the demo account.
# The mail is then in the inbox: open /inbox/ in a
# second browser tab. The requestId answered here is
# copied into the variables of the later tabs.
#
# Try an address that nobody has, too: the answer
# looks the same.
mutation RequestReset($input: RequestPasswordResetInput!) {
  requestPasswordReset(input: $input) {
    __typename
    ... on RequestPasswordResetSuccess {
      reset {
        requestId
        status
        matchPhrase
        attemptsLeft
        createdAt
        expiresAt
        resendAvailableAt
        isUserPasswordUpdated
      }
    }
    ... on Error {
      message
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { email: "demo@example.com" } },
  ),

  example(
    `
# 3. Where does it stand? QUEUED becomes SENT as
# soon as the mailer has seen the request.
# matchPhrase must be the two words in the mail.
#
# Come back to this tab after any later step.
query ResetStatus($requestId: ID!) {
  passwordResetStatus(requestId: $requestId) {
    requestId
    status
    matchPhrase
    attemptsLeft
    createdAt
    expiresAt
    resendAvailableAt
    isUserPasswordUpdated
  }
}
`,
    { requestId: NO_REQUEST_ID },
  ),

  example(
    `
# Or have it told: the answer changes with the
# reset, until that is over. Leave it running, and
# take the next steps in other tabs; stop it by the
# button that started it.
subscription WatchReset($requestId: ID!) {
  passwordResetStatusChanged(requestId: $requestId) {
    status
    attemptsLeft
    expiresAt
    isUserPasswordUpdated
  }
}
`,
    { requestId: NO_REQUEST_ID },
  ),

  example(
    `
# 4. Copy the code out of the mail in /inbox/ into
# the variables below. A right code buys a
# resetToken, good for some minutes and copied into
# the variables of the next two tabs.
#
# A wrong code costs one of attemptsLeft.
mutation VerifyCode($input: VerifyPasswordResetCodeInput!) {
  verifyPasswordResetCode(input: $input) {
    __typename
    ... on VerifyPasswordResetCodeSuccess {
      resetToken
      expiresAt
      reset {
        requestId
        status
        attemptsLeft
      }
    }
    ... on Error {
      message
    }
    ... on InvalidCodeError {
      attemptsLeft
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { requestId: NO_REQUEST_ID, code: "the code from the mail" } },
  ),

  example(
    `
# 5. Try a password; this spends nothing.
# Put "password" into the variables and see what is
# wrong with it.
#
# The resetToken may be left out. With it, words out
# of the account, as its name, are refused as well.
mutation CheckPassword($input: CheckPasswordInput!) {
  checkPassword(input: $input) {
    __typename
    ... on CheckPasswordSuccess {
      score
    }
    ... on Error {
      message
    }
    ... on PasswordRejectedError {
      violations {
        code
        message
      }
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { newPassword: NEW_PASSWORD, resetToken: NO_RESET_TOKEN } },
  ),

  example(
    `
# Is a token still good? A page that was opened by
# a mailed link asks before anybody types a
# password. This spends nothing.
mutation CheckToken($input: CheckResetTokenInput!) {
  checkResetToken(input: $input) {
    __typename
    ... on CheckResetTokenSuccess {
      expiresAt
    }
    ... on Error {
      message
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { resetToken: NO_RESET_TOKEN } },
  ),

  example(
    `
# 6. Set the new password. This spends the token:
# run it twice, and the second answer is an
# InvalidResetTokenError. ResetStatus then says
# COMPLETED, and a mail tells the owner.
#
# The mailed link carries a resetToken as well: it
# is what follows "#token=" there.
mutation SetPassword($input: ResetPasswordInput!) {
  resetPassword(input: $input) {
    __typename
    ... on ResetPasswordSuccess {
      reset {
        requestId
        status
        isUserPasswordUpdated
      }
    }
    ... on Error {
      message
    }
    ... on PasswordRejectedError {
      violations {
        code
        message
      }
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { resetToken: NO_RESET_TOKEN, newPassword: NEW_PASSWORD } },
  ),

  example(
    `
# No mail? Once resendAvailableAt has passed, this
# sends it again. Before that, a RateLimitedError
# says how many seconds to wait.
# Needs the requestId from RequestReset.
mutation ResendCode($input: ResendPasswordResetCodeInput!) {
  resendPasswordResetCode(input: $input) {
    __typename
    ... on ResendPasswordResetCodeSuccess {
      reset {
        requestId
        status
        attemptsLeft
        expiresAt
        resendAvailableAt
      }
    }
    ... on Error {
      message
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { requestId: NO_REQUEST_ID } },
  ),

  example(
    `
# Changed your mind? This gives a reset up: its code
# and its resetToken stop working. The mailed link
# stays good, it is the mailbox owner's.
# Needs the requestId from RequestReset.
mutation CancelReset($input: CancelPasswordResetInput!) {
  cancelPasswordReset(input: $input) {
    __typename
    ... on CancelPasswordResetSuccess {
      reset {
        requestId
        status
      }
    }
    ... on Error {
      message
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { requestId: NO_REQUEST_ID } },
  ),

  example(
    `
# "This was not me": the link in each mail leads
# here. It ends what is under way; after a changed
# password, nobody can sign in with that any more,
# and the owner is mailed another link.
# The token follows "#report=" in the mail.
mutation ReportReset($input: ReportPasswordResetInput!) {
  reportPasswordReset(input: $input) {
    __typename
    ... on ReportPasswordResetSuccess {
      cancelled
      freshLink
    }
    ... on Error {
      message
    }
    ... on InvalidInputError {
      field
    }
    ... on RateLimitedError {
      retryAfter
    }
  }
}
`,
    { input: { reportToken: "what follows #report= in the mail" } },
  ),
];
