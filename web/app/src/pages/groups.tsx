import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import type { PublicGroup } from "@muster/sdk";
import { loadConversations, unreadConversations } from "../chat/conversations.ts";
import { contacts } from "../contacts.ts";
import { ago } from "../lib/age.ts";
import { codeOf } from "../lib/invite.ts";
import { api, connected, createGroup, joinByCode, joinDemo, loadGroups, signOut } from "../live.ts";
import { unreadNotifications } from "../notices.ts";
import { account, demo, groups, now } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Frame, Logo } from "./frame.tsx";

/** The groups one is in, and the ways into another one. */
export function Groups() {
  const { route } = useLocation();
  useEffect(() => {
    void attempt(() => Promise.all([loadGroups(), connected()]));
    loadConversations().catch(() => {}); // their page says what is wrong
  }, []);
  const who = account.value;
  return (
    <Frame>
      <header class="home-head">
        <Logo />
        {who && (
          <div class="home-who">
            <Avatar user={who.user} name={who.name} picture={who.picture} me />
            <span class="grow break">{who.name}</span>
            <Button kind="quiet" data-testid="sign-out" action={signOut}>Sign out</Button>
          </div>
        )}
        <Ways />
      </header>
      <h1 class="h2">Your groups</h1>
      <GroupList />
      <section class="card pair">
        <NameForm id="group-name" label="New group" placeholder="Sunday hike" submit="Create" button="create-group" maxLength={80}
          send={async (name) => route(`/g/${await createGroup(name)}`)} />
        <NameForm id="join-code" label="Join with a code or link" placeholder="K7QX-M2PD" submit="Join" button="join-group"
          send={async (text) => route(`/g/${await joinByCode(codeOf(text))}`)} />
      </section>
      <Directory />
      {demo.value && (
        <Button class="big" data-testid="demo-button" action={async () => route(`/g/${await joinDemo()}`)}>
          Look around: join the demo
        </Button>
      )}
    </Frame>
  );
}

/** To what is not in a group. */
function Ways() {
  const asked = contacts.value?.received.length ?? 0;
  return (
    <nav class="ways" aria-label="Yours">
      <a class="button plain" href="/conversations" data-testid="to-conversations">
        <Icon name="chat" /> Chats{unreadConversations.value > 0 && <Count of={unreadConversations.value} />}
      </a>
      <a class="button plain" href="/people" data-testid="to-people"><Icon name="people" /> People{asked > 0 && <Count of={asked} />}</a>
      <a class="button plain" href="/nearby" data-testid="to-nearby"><Icon name="radar" /> Nearby</a>
      <a class="button plain" href="/notifications" data-testid="to-notifications">
        <Icon name="bell" /> News{unreadNotifications.value > 0 && <Count of={unreadNotifications.value} />}
      </a>
      <a class="button plain" href="/account" data-testid="to-account"><Icon name="person" /> Account</a>
    </nav>
  );
}

const Count = ({ of }: { of: number }) => <span class="badge" aria-label={`${of} new`}>{of}</span>;

/** Groups that everybody may join. */
function Directory() {
  const { route } = useLocation();
  const [found, setFound] = useState<readonly PublicGroup[] | undefined>();
  const find = async (words: string) => setFound(await api.friends.directory(words));
  return (
    <section class="card" aria-label="Public groups">
      <NameForm id="find-group" label="Find a public group" placeholder="Chess" submit="Find" button="find-group-button" maxLength={80} send={find} />
      <div role="status">
        {found?.length === 0 && <p class="empty small">No public group has this name.</p>}
        {found && found.length > 0 && (
          <ul class="items">
            {found.map((g) => (
              <li key={g.groupId} data-testid="public-group">
                <span class="grow break"><strong>{g.name}</strong><small>{g.memberCount === 1 ? "1 member" : `${g.memberCount} members`}{g.description && ` · ${g.description}`}</small></span>
                <Button action={async () => { if (!g.joined) await api.friends.joinPublic(g.groupId); route(`/g/${g.groupId}`); }}>{g.joined ? "Open" : "Join"}</Button>
              </li>
            ))}
          </ul>
        )}
      </div>
    </section>
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
