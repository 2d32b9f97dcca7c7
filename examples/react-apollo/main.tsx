import { ApolloClient, HttpLink, InMemoryCache } from "@apollo/client";
import { ApolloProvider } from "@apollo/client/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { PasswordReset } from "./PasswordReset";

const root = document.getElementById("root")!;
const client = new ApolloClient({
  link: new HttpLink({ uri: root.dataset.endpoint }),
  cache: new InMemoryCache({
    // A reset is known by its handle, so each answer about it brings all others up to date.
    typePolicies: { PasswordReset: { keyFields: ["requestId"] } },
    possibleTypes: {
      Error: [
        "InvalidInputError",
        "RateLimitedError",
        "InvalidCodeError",
        "InvalidResetTokenError",
        "PasswordRejectedError",
        "UnknownRequestError",
      ],
    },
  }),
});

createRoot(root).render(
  <StrictMode>
    <ApolloProvider client={client}>
      <h1>Forgot your password?</h1>
      <PasswordReset />
    </ApolloProvider>
  </StrictMode>,
);
