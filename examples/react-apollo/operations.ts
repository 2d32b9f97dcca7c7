// `graphql-codegen` reads this and writes typed documents (see codegen.ts): import `RequestDocument` from `./gql/graphql` in
// place of `REQUEST`, and drop the `<any>` in the components.
import { gql } from "@apollo/client";

export const REQUEST = gql`
  mutation Request($input: RequestPasswordResetInput!) {
    requestPasswordReset(input: $input) {
      ... on RequestPasswordResetSuccess { reset { requestId matchPhrase } }
      ... on Error { message }
    }
  }
`;

export const WATCH = gql`
  query Status($requestId: ID!) {
    passwordResetStatus(requestId: $requestId) { requestId status pollAfterSeconds }
  }
`;

export const VERIFY = gql`
  mutation Verify($input: VerifyPasswordResetCodeInput!) {
    verifyPasswordResetCode(input: $input) {
      ... on VerifyPasswordResetCodeSuccess { resetToken }
      ... on InvalidCodeError { attemptsLeft }
      ... on Error { message }
    }
  }
`;

export const SET_PASSWORD = gql`
  mutation SetPassword($input: ResetPasswordInput!) {
    resetPassword(input: $input) {
      ... on ResetPasswordSuccess { reset { requestId status } }
      ... on PasswordRejectedError { violations { code message } }
      ... on Error { message }
    }
  }
`;
