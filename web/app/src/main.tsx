import "./hash-link.ts";
import { render } from "preact";
import { App } from "./app.tsx";
import { start } from "./live.ts";
import "./styles/base.css";
import "./styles/pages.css";
import "./styles/stage.css";
import "./styles/map.css";
import "./styles/chat.css";
import "./styles/money.css";
import "./styles/call.css";

const root = document.getElementById("app");
if (!root) throw new Error("index.html has no #app");
void start();
render(<App />, root);
