// The API, as any frontend could use it: one function for each operation, which returns what the union holds.

/** There was no answer: the network is gone, or the server is. `requestId` names the request in the server's log. */
export class Unanswered extends Error {
  constructor(requestId = "") {
    super("no answer");
    this.requestId = requestId;
  }
}

const SHOWN = "{ requestId status matchPhrase expiresAt resendAvailableAt pollAfterSeconds }";
const RESET = `reset ${SHOWN}`;
const ERROR = "__typename ... on Error { message } ... on RateLimitedError { retryAfter }";

/** How far the server's clock is ahead of this one, in milliseconds. */
export let skew = 0;

async function ask(query, variables) {
  let response;
  try {
    response = await fetch(document.querySelector("main").dataset.endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/graphql-response+json" },
      credentials: "omit",
      body: JSON.stringify({ query, variables }),
    });
  } catch {
    throw new Unanswered();
  }
  const date = Date.parse(response.headers.get("Date"));
  if (Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
  const answer = await response.json().catch(() => ({}));
  if (answer.data) return answer.data;
  throw new Unanswered(response.headers.get("X-Request-ID") ?? "");
}

function mutation(name, success) {
  const kind = name[0].toUpperCase() + name.slice(1);
  const query = `mutation Page($input: ${kind}Input!) { ${name}(input: $input) { ${ERROR} ${success} } }`;
  return async (input) => (await ask(query, { input }))[name];
}

export const requestReset = mutation(
  "requestPasswordReset",
  `... on RequestPasswordResetSuccess { ${RESET} }`,
);
export const sendAgain = mutation("resendPasswordResetCode", `... on ResendPasswordResetCodeSuccess { ${RESET} }`);
export const verify = mutation(
  "verifyPasswordResetCode",
  "... on VerifyPasswordResetCodeSuccess { resetToken } ... on InvalidCodeError { attemptsLeft }",
);
export const setPassword = mutation(
  "resetPassword",
  "... on PasswordRejectedError { violations { code message } }",
);
export const checkToken = mutation("checkResetToken", "... on CheckResetTokenSuccess { expiresAt }");
export const checkPassword = mutation(
  "checkPassword",
  "... on CheckPasswordSuccess { score } ... on PasswordRejectedError { violations { code message } }",
);
export const report = mutation("reportPasswordReset", "... on ReportPasswordResetSuccess { cancelled freshLink }");

export async function status(requestId) {
  const query = `query Page($id: ID!) { passwordResetStatus(requestId: $id) ${SHOWN} }`;
  return (await ask(query, { id: requestId })).passwordResetStatus;
}

/**
 * The reset now and after each change. It ends where the server ends it, and at once where none can be had.
 * @see https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
 */
export async function* changes(requestId, signal) {
  const query = `subscription Page($id: ID!) { passwordResetStatusChanged(requestId: $id) ${SHOWN} }`;
  const response = await fetch(document.querySelector("main").dataset.endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    credentials: "omit",
    body: JSON.stringify({ query, variables: { id: requestId } }),
    signal,
  });
  if (!response.ok) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const events = (text + part.value).split("\r\n\r\n");
    text = events.pop();
    for (const event of events) {
      const [, json] = /^data: (\{.*)/m.exec(event) ?? [];
      const found = json && JSON.parse(json).data?.passwordResetStatusChanged;
      if (found) yield found;
    }
  }
}

let asked = null;

/** The policy, which stays as it is and is asked for once; null while nobody answers. */
export async function policy() {
  asked ??= ask("query Page { passwordPolicy { codeLength minPasswordLength checklist { text codes } } }");
  try {
    return (await asked).passwordPolicy;
  } catch {
    asked = null;
    return null;
  }
}
