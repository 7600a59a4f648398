import { render } from "preact";
import { App } from "./app.tsx";
import { start } from "./live.ts";
import "./styles/base.css";
import "./styles/pages.css";
import "./styles/stage.css";
import "./styles/map.css";

// Links may carry the page behind a hash ("/#/join/CODE"), for places where
// only the first page is served: turn them into plain paths.
if (location.hash.startsWith("#/")) history.replaceState(null, "", location.hash.slice(1));

const root = document.getElementById("app");
if (!root) throw new Error("index.html has no #app");
void start();
render(<App />, root);
