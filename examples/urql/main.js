// urql without a framework, with live status: its own subscription exchange, and the events read from fetch.
import { Client, fetchExchange, gql, subscriptionExchange } from "@urql/core";

import { events } from "./events.js";

const root = document.getElementById("root");
const url = root.dataset.endpoint;
const client = new Client({
  url,
  exchanges: [
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({ subscribe: (sink) => events(url, { query, variables }, sink) }),
    }),
  ],
});

const REQUEST = gql`
  mutation Request($input: RequestPasswordResetInput!) {
    requestPasswordReset(input: $input) {
      ... on RequestPasswordResetSuccess { reset { requestId matchPhrase } }
      ... on Error { message }
    }
  }
`;
const CHANGES = gql`
  subscription Changes($requestId: ID!) {
    passwordResetStatusChanged(requestId: $requestId) { status attemptsLeft }
  }
`;
const VERIFY = gql`
  mutation Verify($input: VerifyPasswordResetCodeInput!) {
    verifyPasswordResetCode(input: $input) {
      ... on VerifyPasswordResetCodeSuccess { resetToken }
      ... on Error { message }
    }
  }
`;
const SET_PASSWORD = gql`
  mutation SetPassword($input: ResetPasswordInput!) {
    resetPassword(input: $input) {
      ... on ResetPasswordSuccess { reset { status } }
      ... on PasswordRejectedError { violations { message } }
      ... on Error { message }
    }
  }
`;

async function send(mutation, input) {
  const { data, error } = await client.mutation(mutation, { input }).toPromise();
  if (error) throw error;
  return Object.values(data)[0];
}

/** Show a form with one field; resolves with the answer once it has what `wanted` names. */
function step(label, button, attributes, wanted, answerTo) {
  return new Promise((resolve) => {
    const form = document.createElement("form");
    form.innerHTML = `<p role="status"></p><label>${label} <input></label> <button>${button}</button>`;
    Object.assign(form.querySelector("input"), attributes);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answer = await answerTo(form.querySelector("input").value).catch((error) => error);
      if (answer[wanted]) return resolve(answer[wanted]);
      const told = [answer, ...(answer.violations ?? [])].map(({ message }) => message);
      form.querySelector("p").textContent = told.join(" ");
    });
    root.replaceChildren(form);
  });
}

function say(text) {
  const told = Object.assign(document.createElement("p"), { textContent: text, role: "status" });
  root.prepend(told);
  return told;
}

const email = { type: "email", autocomplete: "username" };
const reset = await step("Email address", "Send the email", email, "reset", (typed) => send(REQUEST, { email: typed }));

const code = { autocomplete: "one-time-code", inputMode: "numeric" };
const proven = step("Code from the email", "Continue", code, "resetToken", (typed) =>
  send(VERIFY, { requestId: reset.requestId, code: typed }),
);
say(`If there is an account, an email with these two words is on its way: ${reset.matchPhrase}`);
const status = say("");
const watching = client.subscription(CHANGES, { requestId: reset.requestId }).subscribe(({ data }) => {
  if (data) status.textContent = `Status: ${data.passwordResetStatusChanged.status}`;
});
const resetToken = await proven;
watching.unsubscribe();

const password = { type: "password", autocomplete: "new-password" };
await step("New password", "Change password", password, "reset", (typed) =>
  send(SET_PASSWORD, { resetToken, newPassword: typed }),
);
root.replaceChildren();
say("Password changed. You can sign in now.");
