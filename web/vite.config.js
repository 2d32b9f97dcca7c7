import { defineConfig } from "vite";

export default defineConfig({
  // Relative addresses: the bundle works under any STATIC_URL.
  base: "./",
  build: {
    // One stylesheet, so that the page can name it.
    cssCodeSplit: false,
    // The editor alone is larger than Vite's default of 500 kB.
    chunkSizeWarningLimit: 4000,
    rolldownOptions: {
      input: "src/main.jsx",
      // A hundred warnings about "use client" in the libraries, which means nothing without a React server.
      checks: { moduleLevelDirective: false },
      output: {
        // The Django template names these two; the rest is found from them and may carry a hash.
        entryFileNames: "graphiql.js",
        assetFileNames: ({ names }) =>
          names.some((name) => name.endsWith(".css")) ? "graphiql.css" : "assets/[name]-[hash][extname]",
      },
    },
  },
  // Modules, unlike classic scripts, let a worker fetch its rarely used parts only when it needs them.
  worker: { format: "es" },
});
