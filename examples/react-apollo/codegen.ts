// npx graphql-codegen --config codegen.ts   (@graphql-codegen/cli and @graphql-codegen/client-preset)
import type { CodegenConfig } from "@graphql-codegen/cli";

const config: CodegenConfig = {
  schema: "../../schema.graphql",
  documents: ["./**/*.{ts,tsx}"],
  generates: {
    "./gql/": { preset: "client", presetConfig: { persistedDocuments: true } },
  },
};

export default config;
