import { GraphiQL } from "graphiql";
import { Kind, parse } from "graphql";
import { createRoot } from "react-dom/client";
import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "./page.css";

import { FillIn, remember } from "./answers.js";
import { examples } from "./examples.js";

const root = document.getElementById("graphiql");

// GraphiQL takes the operation's name over a while after a tab is opened; run at once, a tab would ask for the operation
// of the one before. A document with a single operation needs no name.
function withoutStaleName({ operationName, ...operation }) {
  try {
    const { definitions } = parse(operation.query);
    if (definitions.filter(({ kind }) => kind === Kind.OPERATION_DEFINITION).length === 1) return operation;
  } catch {
    // The server says better what is wrong with it.
  }
  return { ...operation, operationName };
}

function send(operation, accept, headers, signal) {
  return fetch(root.dataset.endpoint, {
    method: "POST",
    headers: { Accept: accept, "Content-Type": "application/json", ...headers },
    body: JSON.stringify(withoutStaleName(operation)),
    signal,
  });
}

async function answerOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    // A proxy's error page, say: its status tells more than "unexpected token <".
    throw new Error(`${response.status} ${response.statusText}, not JSON: ${text.slice(0, 200)}`);
  }
}

// One answer after another, as server-sent events. GraphiQL ends it by return(), when its button is pressed again.
async function* stream(operation, headers) {
  const stopping = new AbortController();
  try {
    const response = await send(operation, "text/event-stream", headers, stopping.signal);
    if (!response.ok) {
      yield await answerOf(response);
      return;
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const events = (text + part.value).split("\r\n\r\n");
      text = events.pop();
      for (const event of events) {
        const [, json] = /^data: (\{.*)/m.exec(event) ?? [];
        if (json) yield JSON.parse(json);
      }
    }
  } finally {
    stopping.abort();
  }
}

function isSubscription({ query }) {
  try {
    return parse(query).definitions.some(({ operation }) => operation === "subscription");
  } catch {
    return false; // the server says better what is wrong with it
  }
}

async function fetcher(operation, { headers } = {}) {
  if (isSubscription(operation)) return stream(operation, headers);
  const response = await send(operation, "application/graphql-response+json, application/json", headers);
  const answer = await answerOf(response);
  remember(answer.data);
  return answer;
}

// GraphiQL would keep tabs and history in localStorage, and with them codes, tokens and passwords.
// In memory they go when the page goes, and every visit starts with the examples.
const memory = new Map();
const storage = {
  getItem: (key) => memory.get(key) ?? null,
  setItem: (key, value) => memory.set(key, value),
  removeItem: (key) => memory.delete(key),
  clear: () => memory.clear(),
  get length() {
    return memory.size;
  },
};

createRoot(root).render(
  <GraphiQL
    fetcher={fetcher}
    storage={storage}
    defaultTabs={examples}
    defaultEditorToolsVisibility="variables"
    showPersistHeadersSettings={false}
  >
    <FillIn />
  </GraphiQL>,
);
