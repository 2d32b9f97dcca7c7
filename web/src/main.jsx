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

async function fetcher(operation, { headers } = {}) {
  const response = await fetch(root.dataset.endpoint, {
    method: "POST",
    headers: {
      Accept: "application/graphql-response+json, application/json",
      "Content-Type": "application/json",
      ...headers,
    },
    body: JSON.stringify(withoutStaleName(operation)),
  });
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    // A proxy's error page, say: its status tells more than "unexpected token <".
    throw new Error(`${response.status} ${response.statusText}, not JSON: ${text.slice(0, 200)}`);
  }
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
