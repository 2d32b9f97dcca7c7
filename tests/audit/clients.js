// The way of a form up to a wrong code, walked by clients that frontends are written with, with and without their links
// for persisted queries.
import { ApolloClient, ApolloLink, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { PersistedQueryLink } from "@apollo/client/link/persisted-queries";
import { Client, cacheExchange, fetchExchange } from "@urql/core";
import { persistedExchange } from "@urql/exchange-persisted";

const REQUEST = gql`
  mutation Request($input: RequestPasswordResetInput!) {
    requestPasswordReset(input: $input) {
      ... on RequestPasswordResetSuccess { reset { requestId status } }
      ... on Error { message }
    }
  }
`;
const STATUS = gql`
  query Status($requestId: ID!) {
    passwordResetStatus(requestId: $requestId) { requestId status attemptsLeft }
  }
`;
const VERIFY = gql`
  mutation Verify($input: VerifyPasswordResetCodeInput!) {
    verifyPasswordResetCode(input: $input) {
      ... on VerifyPasswordResetCodeSuccess { resetToken }
      ... on InvalidCodeError { message attemptsLeft }
      ... on Error { message }
    }
  }
`;
const WRONG = gql`
  query Wrong {
    nothing
  }
`;

async function walk({ ask, change }, email) {
  const { requestPasswordReset: requested } = await change(REQUEST, { input: { email } });
  const { requestId, status } = requested.reset;
  const { passwordResetStatus: shown } = await ask(STATUS, { requestId });
  const { verifyPasswordResetCode: verified } = await change(VERIFY, { input: { requestId, code: "000000" } });
  const refusal = await ask(WRONG, {}).catch((error) => error.message);
  return { requested: requested.__typename, status, shown, verified, refusal };
}

function withApollo(link, email) {
  const clientAwareness = { name: "tests", version: "1.0.0" };
  const client = new ApolloClient({ link, cache: new InMemoryCache(), clientAwareness });
  return walk(
    {
      ask: async (query, variables) => (await client.query({ query, variables })).data,
      change: async (mutation, variables) => (await client.mutate({ mutation, variables })).data,
    },
    email,
  );
}

function withUrql(url, exchanges, email, options = {}) {
  const client = new Client({ url, exchanges: [cacheExchange, ...exchanges, fetchExchange], ...options });
  const read = ({ data, error }) => {
    if (error) throw error;
    return data;
  };
  return walk(
    {
      ask: async (query, variables) => read(await client.query(query, variables).toPromise()),
      change: async (mutation, variables) => read(await client.mutation(mutation, variables).toPromise()),
    },
    email,
  );
}

async function sha256(text) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

window.apollo = (uri, email) => withApollo(new HttpLink({ uri }), email);
window.apolloPersisted = (uri, email) =>
  withApollo(ApolloLink.from([new PersistedQueryLink({ sha256 }), new HttpLink({ uri })]), email);
window.urql = (url, email) => withUrql(url, [], email, { preferGetMethod: false });
window.urqlPersisted = (url, email) =>
  withUrql(url, [persistedExchange({ preferGetForPersistedQueries: false, enableForMutation: true })], email, {
    preferGetMethod: false,
  });
// As it comes: hashes go by GET, with the variables in the URL.
window.urqlPersistedByGet = (url, email) => withUrql(url, [persistedExchange({})], email, { preferGetMethod: false });
