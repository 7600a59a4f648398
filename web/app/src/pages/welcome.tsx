import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { goToGoogle, joinDemo, tryAsGuest } from "../live.ts";
import { demo, google } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Frame, Logo } from "./frame.tsx";
import { RegisterForm, SignInForm } from "./sign-in.tsx";

/** The first page of somebody who is not signed in. */
export function Welcome() {
  const { route } = useLocation();
  return (
    <Frame>
      <Logo />
      <h1>See who is here, where they are, and talk to them.</h1>
      <p class="lead">Groups on one live map, each person connected to the region nearest to them.</p>
      {/* The place of the demo is kept while it is not known, so that nothing jumps. */}
      {demo.value !== null && (
        <Button kind="primary" class="big" data-testid="demo-button" disabled={demo.value === undefined}
          action={async () => route(`/g/${await joinDemo()}`)}>
          Look around: join the demo
        </Button>
      )}
      <Button kind={demo.value === null ? "primary" : "plain"} class="big" data-testid="guest-button" action={tryAsGuest}>
        Try it without an account
      </Button>
      <p class="hint">No form, no mail. You can turn a guest into an account later.</p>
      <AccountForms />
    </Frame>
  );
}

/** Sign in or register: two tabs over one card. */
export function AccountForms() {
  const [tab, setTab] = useState<"in" | "new">("in");
  const tabs = [["in", "Sign in"], ["new", "Create account"]] as const;
  return (
    <section class="card" aria-label="Account">
      <div class="segments" role="tablist">
        {tabs.map(([id, label]) => (
          <button key={id} type="button" role="tab" aria-selected={tab === id} data-testid={id === "in" ? "signin-tab" : "register-tab"}
            onClick={() => setTab(id)}>
            {label}
          </button>
        ))}
      </div>
      {tab === "in" ? <SignInForm /> : <RegisterForm />}
      {google.value && <Button data-testid="google-button" action={goToGoogle}>Continue with Google</Button>}
    </section>
  );
}
