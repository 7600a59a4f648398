import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { finishGoogle, text } from "../live.ts";
import { Frame, Logo } from "./frame.tsx";

/** Where Google sends people back to. */
export function GooglePage() {
  const { route, query } = useLocation();
  const [problem, setProblem] = useState("");
  useEffect(() => {
    if (query["error"]) return setProblem("Google did not sign you in.");
    finishGoogle(query["code"] ?? "").then(() => route("/", true), (err: unknown) => setProblem(text(err)));
  }, []);
  return (
    <Frame>
      <Logo />
      {problem === "" ? <p class="lead" role="status">Signing you in…</p> : (
        <>
          <h1>That didn't work</h1>
          <p class="lead" role="alert">{problem}</p>
          <a class="button plain big" href="/">Back</a>
        </>
      )}
    </Frame>
  );
}
