import { useLocation, useRoute } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { joinByCode, tryAsGuest } from "../live.ts";
import { account } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Frame, Logo } from "./frame.tsx";
import { AccountForms } from "./welcome.tsx";

/** Behind an invite link: who is signed in joins at once, others choose how. */
export function JoinPage() {
  const { route } = useLocation();
  const code = useRoute().params["code"] ?? "";
  const [problem, setProblem] = useState("");
  const signedIn = account.value != null;
  useEffect(() => {
    if (!signedIn) return;
    joinByCode(code).then(
      (id) => route(`/g/${id}`, true),
      (err: unknown) => setProblem(err instanceof Error ? err.message : String(err)),
    );
  }, [signedIn, code]);
  return (
    <Frame>
      <Logo />
      {signedIn ? (
        problem === "" ? (
          <p class="lead" role="status">Joining the group…</p>
        ) : (
          <>
            <h1>This invite doesn't work</h1>
            <p class="lead" role="alert">{problem}</p>
            <a class="button plain big" href="/">To your groups</a>
          </>
        )
      ) : (
        <>
          <h1>You are invited to a group</h1>
          <p class="lead">See its people on a live map and talk to them. Nobody sees where you are unless you share it.</p>
          <Button kind="primary" class="big" data-testid="guest-button" action={tryAsGuest}>Join as a guest</Button>
          <AccountForms />
        </>
      )}
    </Frame>
  );
}
