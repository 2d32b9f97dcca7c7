// The API, as any frontend could use it: one function for each operation, which returns what the union holds.

import * as operations from "./operations.js";

/** There was no answer: the network is gone, or the server is. `requestId` names the request in the server's log. */
export class Unanswered extends Error {
  constructor(requestId = "") {
    super("no answer");
    this.requestId = requestId;
  }
}

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

/** A mutation by its text; the function returns what the union of its one field holds. */
function mutation(text) {
  return async (input) => Object.values(await ask(text, { input }))[0];
}

export const requestReset = mutation(operations.REQUEST);
export const sendAgain = mutation(operations.SEND_AGAIN);
export const verify = mutation(operations.VERIFY);
export const setPassword = mutation(operations.SET_PASSWORD);
export const checkToken = mutation(operations.CHECK_TOKEN);
export const checkPassword = mutation(operations.CHECK_PASSWORD);
export const report = mutation(operations.REPORT);

export async function status(requestId) {
  return (await ask(operations.STATUS, { requestId })).passwordResetStatus;
}

/**
 * The reset now and after each change. It ends where the server ends it, and at once where none can be had.
 * @see https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
 */
export async function* changes(requestId, signal) {
  const response = await fetch(document.querySelector("main").dataset.endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    credentials: "omit",
    body: JSON.stringify({ query: operations.CHANGES, variables: { requestId } }),
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
  asked ??= ask(operations.POLICY);
  try {
    return (await asked).passwordPolicy;
  } catch {
    asked = null;
    return null;
  }
}
