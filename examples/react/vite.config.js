import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// While one works on it, Vite serves the page and passes on what is meant for the program's server.
export default defineConfig({
  plugins: [react()],
  server: { proxy: { "/llm": { target: "http://127.0.0.1:8000", ws: true } } },
});
