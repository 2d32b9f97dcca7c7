// npx graphql-codegen --config codegen.ts   (@graphql-codegen/cli and @graphql-codegen/client-preset)
//
// Copy schema.graphql along and name it here. The manifest of trusted documents is gql/persisted-documents.json.
import type { CodegenConfig } from "@graphql-codegen/cli";
import { addTypenameSelectionDocumentTransform } from "@graphql-codegen/client-preset";

const config: CodegenConfig = {
  schema: "../../schema.graphql",
  documents: ["./*.{ts,tsx}"],
  generates: {
    "./gql/": {
      preset: "client",
      presetConfig: { persistedDocuments: true },
      documentTransforms: [addTypenameSelectionDocumentTransform],
    },
  },
};

export default config;
