import { useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { api, loadAccount, text } from "../live.ts";
import { account } from "../state.ts";
import { Frame, Logo } from "./frame.tsx";

/** Behind the link of a mail that confirms an address; nobody has to be signed in here. */
export function VerifyPage() {
  const token = useRoute().params["token"] ?? "";
  const [state, setState] = useState<"asking" | "done" | "failed">("asking");
  const [problem, setProblem] = useState("");
  useEffect(() => {
    api.account.verify(token).then(
      () => {
        setState("done");
        if (account.value) void loadAccount();
      },
      (err: unknown) => {
        setState("failed");
        setProblem(text(err));
      },
    );
  }, [token]);
  return (
    <Frame>
      <Logo />
      {state === "asking" && <p class="lead" role="status">Confirming your mail address…</p>}
      {state === "done" && <div role="status"><h1 data-testid="verified">Your mail address is confirmed</h1></div>}
      {state === "failed" && (
        <>
          <h1>This link doesn't work</h1>
          <p class="lead" role="alert">{problem}</p>
          <p class="lead">Links work once and for a limited time. Signed in, you can have another one sent from your account.</p>
        </>
      )}
      {state !== "asking" && <a class="button plain big" href="/">Go on</a>}
    </Frame>
  );
}
