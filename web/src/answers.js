// Carries what one example answers into the variables of those that need it.
import { useGraphiQL } from "@graphiql/react";
import { useEffect } from "react";

import { NO_REQUEST_ID, NO_RESET_TOKEN } from "./examples.js";

// Oldest first. Earlier answers stay known, so that a second round replaces those of the first;
// a value pasted by hand is never touched.
const requestIds = [NO_REQUEST_ID];
const resetTokens = [NO_RESET_TOKEN];

export function remember(data) {
  const requestId = data?.requestPasswordReset?.reset?.requestId;
  const resetToken = data?.verifyPasswordResetCode?.resetToken;
  if (requestId) requestIds.push(requestId);
  if (resetToken) resetTokens.push(resetToken);
}

function withNewest(variables) {
  for (const values of [requestIds, resetTokens]) {
    for (const value of values) {
      variables = variables.replaceAll(JSON.stringify(value), JSON.stringify(values.at(-1)));
    }
  }
  return variables;
}

// Renders nothing; it is a component because only GraphiQL's children can reach its editors.
export function FillIn() {
  const editor = useGraphiQL((state) => state.variableEditor);
  const tab = useGraphiQL((state) => state.activeTabIndex);

  useEffect(() => {
    if (!editor) return;
    const variables = editor.getValue();
    const filled = withNewest(variables);
    if (filled !== variables) editor.setValue(filled);
  }, [editor, tab]);

  return null;
}
