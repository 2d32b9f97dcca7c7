// The way of a form up to a wrong code, walked by two clients that frontends are written with.
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { Client, cacheExchange, fetchExchange } from "@urql/core";

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

window.apollo = (uri, email) => {
  const client = new ApolloClient({ link: new HttpLink({ uri }), cache: new InMemoryCache() });
  return walk(
    {
      ask: async (query, variables) => (await client.query({ query, variables })).data,
      change: async (mutation, variables) => (await client.mutate({ mutation, variables })).data,
    },
    email,
  );
};

window.urql = (url, email) => {
  const client = new Client({ url, exchanges: [cacheExchange, fetchExchange], preferGetMethod: false });
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
};
