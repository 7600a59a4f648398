import { render } from "preact";
import "../../app/src/styles/base.css";
import "./console.css";
import { watch } from "./live.ts";
import { Console } from "./page.tsx";

const root = document.getElementById("console");
if (!root) throw new Error("index.html has no #console");
void watch();
render(<Console />, root);
