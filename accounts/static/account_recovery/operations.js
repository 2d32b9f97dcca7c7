// The operations of this page, as any frontend could write them. `make schema` puts each into accounts/documents.json,
// so that the page works where only trusted documents are run.

export const REQUEST = `mutation Request($input: RequestPasswordResetInput!) {
  requestPasswordReset(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on RequestPasswordResetSuccess {
      reset { requestId status matchPhrase expiresAt resendAvailableAt pollAfterSeconds }
    }
  }
}`;

export const SEND_AGAIN = `mutation SendAgain($input: ResendPasswordResetCodeInput!) {
  resendPasswordResetCode(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on ResendPasswordResetCodeSuccess {
      reset { requestId status matchPhrase expiresAt resendAvailableAt pollAfterSeconds }
    }
  }
}`;

export const VERIFY = `mutation Verify($input: VerifyPasswordResetCodeInput!) {
  verifyPasswordResetCode(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on InvalidCodeError { attemptsLeft }
    ... on VerifyPasswordResetCodeSuccess { resetToken }
  }
}`;

export const SET_PASSWORD = `mutation SetPassword($input: ResetPasswordInput!) {
  resetPassword(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on PasswordRejectedError { violations { code message } }
  }
}`;

export const CHECK_TOKEN = `mutation CheckToken($input: CheckResetTokenInput!) {
  checkResetToken(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on CheckResetTokenSuccess { expiresAt }
  }
}`;

export const CHECK_PASSWORD = `mutation CheckPassword($input: CheckPasswordInput!) {
  checkPassword(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on PasswordRejectedError { violations { code message } }
    ... on CheckPasswordSuccess { score }
  }
}`;

export const REPORT = `mutation Report($input: ReportPasswordResetInput!) {
  reportPasswordReset(input: $input) {
    __typename
    ... on Error { message }
    ... on RateLimitedError { retryAfter }
    ... on ReportPasswordResetSuccess { cancelled freshLink }
  }
}`;

export const STATUS = `query Status($requestId: ID!) {
  passwordResetStatus(requestId: $requestId) {
    requestId status matchPhrase expiresAt resendAvailableAt pollAfterSeconds
  }
}`;

export const CHANGES = `subscription Changes($requestId: ID!) {
  passwordResetStatusChanged(requestId: $requestId) {
    requestId status matchPhrase expiresAt resendAvailableAt pollAfterSeconds
  }
}`;

export const POLICY = `query Policy {
  passwordPolicy { codeLength minPasswordLength checklist { text codes } }
}`;
