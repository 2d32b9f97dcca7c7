// What `graphql-codegen` reads: with codegen.ts beside this file, `useMutation` knows the type of every answer.
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
