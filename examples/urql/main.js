// urql without a framework, with live status: its own subscription exchange, and the events read from fetch.
import { Client, fetchExchange, gql, subscriptionExchange } from "@urql/core";

import { events } from "./events.js";

const root = document.getElementById("root");
const url = root.dataset.endpoint;
const client = new Client({
  url,
  preferGetMethod: false, // a handle must not stand in a URL
  exchanges: [
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({ subscribe: (sink) => events(url, { query, variables }, sink) }),
    }),
  ],
});

const KEY = newKey(); // one for this page: after a lost answer the same reset answers, and nobody is mailed twice
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
const STATUS = gql`
  query Status($requestId: ID!) {
    passwordResetStatus(requestId: $requestId) { status pollAfterSeconds }
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
      const pressed = form.querySelector("button");
      pressed.disabled = true;
      const answer = await answerTo(form.querySelector("input").value).catch((error) => error);
      pressed.disabled = false;
      if (answer[wanted]) return resolve(answer[wanted]);
      const told = [answer, ...(answer.violations ?? [])].map(({ message }) => message);
      form.querySelector("p").textContent = told.join(" ");
    });
    const isFirst = !root.hasChildNodes();
    root.replaceChildren(form);
    if (!isFirst) form.querySelector("input").focus();
  });
}

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function say(text) {
  const told = Object.assign(document.createElement("p"), { textContent: text, role: "status" });
  root.prepend(told);
  return told;
}

const email = { type: "email", autocomplete: "username" };
const reset = await step("Email address", "Send the email", email, "reset", (typed) =>
  send(REQUEST, { email: typed, idempotencyKey: KEY }),
);

const code = { autocomplete: "one-time-code", inputMode: "numeric" };
const proven = step("Code from the email", "Continue", code, "resetToken", (typed) =>
  send(VERIFY, { requestId: reset.requestId, code: typed }),
);
say(`If there is an account, an email with these two words is on its way: ${reset.matchPhrase}`);
const status = say("");
const variables = { requestId: reset.requestId };
let watching;
function watch() {
  watching = client.subscription(CHANGES, variables, { requestPolicy: "network-only" }).subscribe(({ data, error }) => {
    if (data) status.textContent = `Status: ${data.passwordResetStatusChanged.status}`;
    // Cut off: open another one. Anything else: this server has no room, or no streams; ask now and then instead.
    if (error) watching = later(error.message.includes("cut off") ? watch : ask, 2);
  });
}
async function ask() {
  const { data } = await client.query(STATUS, variables).toPromise();
  const { status: shown, pollAfterSeconds = 5 } = data?.passwordResetStatus ?? {};
  if (shown) status.textContent = `Status: ${shown}`;
  watching = later(ask, pollAfterSeconds);
}
function later(task, seconds) {
  const timer = setTimeout(task, 1000 * seconds);
  return { unsubscribe: () => clearTimeout(timer) };
}
watch();
const resetToken = await proven;
watching.unsubscribe();

const password = { type: "password", autocomplete: "new-password" };
await step("New password", "Change password", password, "reset", (typed) =>
  send(SET_PASSWORD, { resetToken, newPassword: typed }),
);
root.replaceChildren();
say("Password changed. You can sign in now.");
