import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { ago } from "../lib/age.ts";
import { codeOf } from "../lib/invite.ts";
import { createGroup, joinByCode, joinDemo, loadGroups, signOut } from "../live.ts";
import { account, demo, groups, now } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Frame, Logo } from "./frame.tsx";

/** The groups one is in, and the ways into another one. */
export function Groups() {
  const { route } = useLocation();
  useEffect(() => void attempt(loadGroups), []);
  const who = account.value;
  return (
    <Frame>
      <header class="home-head">
        <Logo />
        {who && (
          <div class="home-who">
            <Avatar user={who.user} name={who.name} me />
            <span class="grow">{who.name}</span>
            <Button kind="quiet" data-testid="sign-out" action={signOut}>Sign out</Button>
          </div>
        )}
      </header>
      <h1 class="h2">Your groups</h1>
      <GroupList />
      <section class="card pair">
        <NameForm id="group-name" label="New group" placeholder="Sunday hike" submit="Create" button="create-group" maxLength={80}
          send={async (name) => route(`/g/${await createGroup(name)}`)} />
        <NameForm id="join-code" label="Join with a code or link" placeholder="K7QX-M2PD" submit="Join" button="join-group"
          send={async (text) => route(`/g/${await joinByCode(codeOf(text))}`)} />
      </section>
      {demo.value && (
        <Button class="big" data-testid="demo-button" action={async () => route(`/g/${await joinDemo()}`)}>
          Look around: join the demo
        </Button>
      )}
    </Frame>
  );
}

function GroupList() {
  const all = groups.value;
  if (all === undefined) return <div class="list-space" aria-busy="true" />;
  if (all.length === 0) {
    return <p class="empty">You are in no group yet. Create one and send its link to friends, or join with a code.</p>;
  }
  return (
    <ul class="list card" data-testid="group-list">
      {all.map((g) => (
        <li key={g.id}>
          <a class="row" href={`/g/${g.id}`}>
            <span class="row-icon"><Icon name="people" /></span>
            <span class="grow">
              <strong>{g.name}</strong>
              <small>{g.members === 1 ? "1 member" : `${g.members} members`} · active {ago(g.lastActive, now.value)}</small>
            </span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function NameForm(props: {
  id: string; label: string; placeholder: string; submit: string; button: string; maxLength?: number;
  send: (text: string) => Promise<unknown>;
}) {
  const input = useRef<HTMLInputElement>(null);
  const [busy, setBusy] = useState(false);
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    const text = input.current?.value.trim() ?? "";
    if (text === "") return input.current?.focus();
    setBusy(true);
    await attempt(() => props.send(text));
    setBusy(false);
  };
  return (
    <form class="inline-form" onSubmit={(e) => void send(e)}>
      <label for={props.id}>{props.label}</label>
      <div class="inline">
        <input ref={input} id={props.id} data-testid={props.id} placeholder={props.placeholder} maxLength={props.maxLength}
          autocomplete="off" required />
        <button class="button primary" type="submit" data-testid={props.button} disabled={busy} aria-busy={busy}>{props.submit}</button>
      </div>
    </form>
  );
}
