import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { DataExport, SecurityEvent, SignedIn } from "@muster/sdk";
import { ago } from "../lib/age.ts";
import { deviceWords, eventWords } from "../lib/login.ts";
import { api, deleteAccount, loadAccount } from "../live.ts";
import { unreadNotifications } from "../notices.ts";
import { account, now } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { attempt, toast } from "../ui/toast.tsx";
import { NotificationSettings } from "./notification-settings.tsx";
import { Page } from "./page.tsx";
import { AccountForm, Field, RegisterForm } from "./sign-in.tsx";
import { SubscriptionSection } from "./subscription.tsx";

/** The account: how one signs in, where one is signed in, what one is told, and its end. */
export function AccountPage() {
  const who = account.value;
  return (
    <Page title="Account">
      {who && (
        <>
          <div class="row still">
            <Avatar user={who.user} name={who.name} picture={who.picture} me />
            <span class="grow break"><strong>{who.name}</strong><small>{who.guest ? "Guest on this browser" : who.email}</small></span>
          </div>
          {who.guest && (
            <section class="card" aria-label="Keep this guest">
              <p class="small">A guest is gone with this browser's memory. As an account you keep your groups.</p>
              <RegisterForm guest />
            </section>
          )}
          {!who.guest && <Picture />}
          {!who.guest && <Email />}
          {!who.guest && <Password />}
          <SubscriptionSection />
          <NotificationSettings />
          <Logins />
          <Events />
          <Data guest={who.guest} />
        </>
      )}
    </Page>
  );
}

function Picture() {
  const put = async (file: File | undefined) => {
    if (!file) return;
    await api.setPicture(file);
    await loadAccount();
  };
  return (
    <section class="form" aria-label="Picture">
      <h2 class="section">Picture</h2>
      <div class="field">
        <label for="picture">Your picture, as others see it</label>
        <input id="picture" type="file" accept="image/jpeg,image/png,image/webp,image/gif" data-testid="picture-input"
          onChange={(e) => void attempt(() => put(e.currentTarget.files?.[0]))} />
        <small>It is cut to a square; what a camera wrote into it, such as where it was taken, is removed.</small>
      </div>
      {account.value?.picture && <Button kind="quiet" action={async () => { await api.updateProfile({ profilePicture: "" }); await loadAccount(); }}>Remove it</Button>}
    </section>
  );
}

function Email() {
  const [open, setOpen] = useState(false);
  const who = account.value;
  if (!who) return null;
  return (
    <section class="form" aria-label="Mail address">
      <h2 class="section">Mail address</h2>
      <div class="setting">
        <span class="break">{who.email}<small data-testid="email-state">{who.verified ? "Confirmed" : "Not confirmed yet: follow the link in the mail that you got."}</small></span>
        {!who.verified && (
          <Button kind="quiet" data-testid="resend" action={async () => { await api.account.resend(); toast("Another mail is on its way"); }}>Send it again</Button>
        )}
      </div>
      {!open && <Button kind="quiet" data-testid="change-email" action={() => setOpen(true)}>Use another address</Button>}
      {open && (
        <AccountForm testid="email-form" submit="Send a link there" send={async (v) => {
          await api.account.changeEmail(v["email"] ?? "", v["password"] ?? "");
          setOpen(false);
          toast("Follow the link in the mail at the new address: until then the old one stays");
        }}>
          <Field label="New address" name="email" type="email" autocomplete="email" required />
          <Field label="Password" name="password" type="password" autocomplete="current-password" required />
        </AccountForm>
      )}
    </section>
  );
}

function Password() {
  const [open, setOpen] = useState(false);
  return (
    <section class="form" aria-label="Password">
      <h2 class="section">Password</h2>
      {!open && <Button kind="quiet" data-testid="change-password" action={() => setOpen(true)}>Change the password</Button>}
      {open && (
        <AccountForm testid="password-form" submit="Change it" send={async (v) => {
          await api.account.changePassword(v["old"] ?? "", v["new"] ?? "");
          setOpen(false);
          toast("Changed. Everywhere else you are signed out");
        }}>
          <Field label="Password now" name="old" type="password" autocomplete="current-password" required data-testid="old-password" />
          <Field label="New password" name="new" type="password" autocomplete="new-password" required minLength={10} hint="At least 10 characters" data-testid="new-password" />
        </AccountForm>
      )}
    </section>
  );
}

function Logins() {
  const [logins, setLogins] = useState<readonly SignedIn[]>([]);
  const load = async () => setLogins(await api.account.logins());
  useEffect(() => void attempt(load), []);
  const end = (action: () => Promise<unknown>) => async () => {
    await action();
    await load();
  };
  return (
    <section class="form" aria-label="Where you are signed in">
      <h2 class="section">Where you are signed in</h2>
      <ul class="items">
        {logins.map((l) => (
          <li key={l.loginId} data-testid="login" data-current={l.current}>
            <span class="grow">
              <strong>{deviceWords(l.device)}</strong>
              <small>{l.current ? "This browser" : `Last used ${ago(l.lastUsedAt?.getTime() ?? 0, now.value)}`}{l.network && ` · ${l.network}`}</small>
            </span>
            {!l.current && <Button kind="quiet" data-testid="end-login" action={end(() => api.account.endLogin(l.loginId))}>Sign out</Button>}
          </li>
        ))}
      </ul>
      {logins.length > 1 && <Button data-testid="end-others" action={end(() => api.account.endOthers())}>Sign out everywhere else</Button>}
    </section>
  );
}

function Events() {
  const [events, setEvents] = useState<readonly SecurityEvent[] | undefined>();
  return (
    <section class="form" aria-label="Security">
      <h2 class="section">Security</h2>
      {!events && <Button kind="quiet" data-testid="show-events" action={async () => setEvents(await api.account.events())}>What happened to this account</Button>}
      {events && (
        <ul class="items">
          {events.map((e) => (
            <li key={e.eventId} data-testid="security-event" data-kind={e.kind}>
              <span class="grow"><strong>{eventWords(e.kind)}</strong><small>{ago(e.at?.getTime() ?? 0, now.value)}{e.network && ` · ${e.network}`}</small></span>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** What there is of the user, to take along or to delete. */
function Data({ guest }: { guest: boolean }) {
  const { route } = useLocation();
  const [sure, setSure] = useState(false);
  const [copy, setCopy] = useState<DataExport | undefined>();
  const load = async () => setCopy(await api.export());
  useEffect(() => void attempt(load), [unreadNotifications.value]); // one of which says that it is ready
  const fetchIt = async () => {
    const url = (await api.export())?.url; // it is good for some minutes
    if (url) location.assign(new URL(url, location.origin).pathname);
  };
  const request = async () => {
    await api.requestExport();
    await load();
  };
  return (
    <section class="form" aria-label="Your data">
      <h2 class="section">Your data</h2>
      {copy?.state === "making" && <p class="small muted" role="status">Your data are being put together: you will be told when they are ready.</p>}
      {copy?.state === "ready" && (
        <Button kind="primary" data-testid="download-export" action={fetchIt}>Download what is stored of you</Button>
      )}
      {copy?.state !== "making" && <Button data-testid="export" action={request}>{copy ? "Put it together anew" : "Get all that is stored of you"}</Button>}
      {!sure && <Button kind="quiet" data-testid="delete-account" action={() => setSure(true)}>Delete this account</Button>}
      {sure && (
        <section class="card" aria-label="Delete this account">
          <p class="small">You are signed out everywhere at once. Your profile, friends, positions and settings are deleted; messages in groups stay, without your name.</p>
          <AccountForm testid="delete-form" submit="Delete it for good" send={async (v) => { await deleteAccount(v["password"] ?? ""); route("/"); }}>
            {!guest && <Field label="Password" name="password" type="password" autocomplete="current-password" required data-testid="delete-password" />}
          </AccountForm>
          <Button kind="quiet" action={() => setSure(false)}>Keep it</Button>
        </section>
      )}
    </section>
  );
}
