import { defineConfig } from "vite";

// Relative addresses: the gateway may serve the page below any base path.
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../spanyard_gateway/page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    sourcemap: false,
    assetsInlineLimit: 0,
  },
  server: { proxy: { "^/(?!ui|src|node_modules|@)": "http://127.0.0.1:8080" } },
});
