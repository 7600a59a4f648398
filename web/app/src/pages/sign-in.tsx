import type { ComponentChildren, InputHTMLAttributes } from "preact";
import { useId, useState } from "preact/hooks";
import { register, signIn, upgrade } from "../live.ts";

type Values = Record<string, string>;

/** A form that shows what the server refused where the user looks for it. */
export function AccountForm(props: {
  testid: string;
  submit: string;
  send: (values: Values) => Promise<unknown>;
  children: ComponentChildren;
}) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    setBusy(true);
    setProblem("");
    try {
      await props.send(Object.fromEntries([...new FormData(form)].map(([k, v]) => [k, String(v)])));
    } catch (err) {
      setProblem(err instanceof Error ? err.message : String(err));
    }
    setBusy(false);
  };
  return (
    <form class="form" data-testid={props.testid} onSubmit={(e) => void send(e)}>
      {props.children}
      <p class="problem" role="alert">{problem}</p>
      <button class="button primary" type="submit" disabled={busy} aria-busy={busy}>{props.submit}</button>
    </form>
  );
}

export function Field({ label, hint, ...input }: { label: string; hint?: string } & InputHTMLAttributes<HTMLInputElement>) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} {...input} aria-describedby={hint ? `${id}-hint` : undefined} />
      {hint && <small id={`${id}-hint`}>{hint}</small>}
    </div>
  );
}

const email = <Field label="Email" name="email" type="email" autocomplete="email" required data-testid="email-input" />;

export function SignInForm() {
  return (
    <>
    <AccountForm testid="signin-form" submit="Sign in" send={(v) => signIn(v["email"] ?? "", v["password"] ?? "")}>
      {email}
      <Field label="Password" name="password" type="password" autocomplete="current-password" required data-testid="password-input" />
    </AccountForm>
    <a class="button quiet" href="/forgot" data-testid="forgot">Forgot the password?</a>
    </>
  );
}

/** A new account, or with `guest` the account that the guest becomes. */
export function RegisterForm({ guest = false, done }: { guest?: boolean; done?: () => void }) {
  const send = async (v: Values) => {
    await (guest ? upgrade : register)(v["username"] ?? "", v["email"] ?? "", v["password"] ?? "");
    done?.();
  };
  return (
    <AccountForm testid="register-form" submit={guest ? "Keep this account" : "Create account"} send={send}>
      <Field label="Name" name="username" autocomplete="username" required data-testid="username-input" />
      {email}
      <Field label="Password" name="password" type="password" autocomplete="new-password" required minLength={10}
        hint="At least 10 characters" data-testid="password-input" />
    </AccountForm>
  );
}
