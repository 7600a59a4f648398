import { useRoute } from "preact-iso";
import { useState } from "preact/hooks";
import { api } from "../live.ts";
import { Frame, Logo } from "./frame.tsx";
import { AccountForm, Field } from "./sign-in.tsx";

/** For who forgot the password: has a link mailed. */
export function ForgotPage() {
  const [sent, setSent] = useState("");
  const send = async (v: Record<string, string>) => {
    const email = v["email"] ?? "";
    await api.account.forgot(email);
    setSent(email);
  };
  return (
    <Frame>
      <Logo />
      <h1>Choose a new password</h1>
      {sent === "" ? (
        <section class="card">
          <AccountForm testid="forgot-form" submit="Send me a link" send={send}>
            <Field label="Email" name="email" type="email" autocomplete="email" required data-testid="email-input" />
          </AccountForm>
        </section>
      ) : (
        <p class="lead" role="status" data-testid="forgot-sent">If an account has {sent}, a link is on its way there. It works once.</p>
      )}
      <a class="button quiet" href="/">Back</a>
    </Frame>
  );
}

/** Behind that link. */
export function ResetPage() {
  const token = useRoute().params["token"] ?? "";
  const [done, setDone] = useState(false);
  const send = async (v: Record<string, string>) => {
    await api.account.reset(token, v["password"] ?? "");
    setDone(true);
  };
  return (
    <Frame>
      <Logo />
      <h1>{done ? "Your password is changed" : "Choose a new password"}</h1>
      {done ? (
        <>
          <p class="lead" role="status" data-testid="reset-done">You are signed out everywhere. Sign in with the new one.</p>
          <a class="button primary big" href="/">Sign in</a>
        </>
      ) : (
        <section class="card">
          <AccountForm testid="reset-form" submit="Change it" send={send}>
            <Field label="New password" name="password" type="password" autocomplete="new-password" required minLength={10}
              hint="At least 10 characters" data-testid="password-input" />
          </AccountForm>
        </section>
      )}
    </Frame>
  );
}
