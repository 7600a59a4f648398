import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { FoundUser, PublicUser, Relation } from "@muster/sdk";
import { change, contacts, discoverability, loadContacts, loadDiscoverability, setDiscoverability } from "../contacts.ts";
import { block } from "../granting.ts";
import { api } from "../live.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Segments } from "../ui/segments.tsx";
import { attempt } from "../ui/toast.tsx";
import { Page } from "./page.tsx";

/** Friends, requests, and finding people. */
export function PeoplePage() {
  useEffect(() => void attempt(() => Promise.all([loadContacts(), loadDiscoverability()])), []);
  const all = contacts.value;
  return (
    <Page title="People">
      <Search />
      {all && all.received.length > 0 && (
        <People label="Want to be friends" testid="received" people={all.received} actions={(p) => (
          <>
            <Button kind="primary" data-testid="accept" action={() => change(() => api.friends.accept(p.userId))}>Accept</Button>
            <Button kind="quiet" data-testid="decline" action={() => change(() => api.friends.decline(p.userId))}>Decline</Button>
          </>
        )} />
      )}
      {all && all.sent.length > 0 && (
        <People label="You asked" testid="sent" people={all.sent} actions={(p) => (
          <Button kind="quiet" data-testid="cancel" action={() => change(() => api.friends.cancel(p.userId))}>Take back</Button>
        )} />
      )}
      {all && <People label="Friends" testid="friend" people={all.friends} actions={(p) => <FriendMenu friend={p} />}
        empty="No friends yet. Find them by name, or ask somebody of a group." />}
      <Found />
    </Page>
  );
}

function People<P extends PublicUser>(props: { label: string; testid: string; people: readonly P[]; actions: (p: P) => preact.ComponentChild; empty?: string }) {
  return (
    <section class="form" aria-label={props.label}>
      <h2 class="section">{props.label}</h2>
      {props.people.length === 0 && props.empty && <p class="empty small">{props.empty}</p>}
      <ul class="items">
        {props.people.map((p) => (
          <li key={p.userId} data-testid={`${props.testid}-${p.username}`}>
            <Avatar user={p.userId} name={p.username} picture={p.profilePicture} />
            <a class="grow break" href={`/u/${p.userId}`}><strong>{p.username}</strong></a>
            {props.actions(p)}
          </li>
        ))}
      </ul>
    </section>
  );
}

function FriendMenu({ friend }: { friend: PublicUser }) {
  const { route } = useLocation();
  const [open, setOpen] = useState(false);
  const write = async () => route(`/c/${(await api.conversations.open(friend.userId)).room}`);
  const more = <Button kind="quiet" aria-label={`What to do with ${friend.username}`} data-testid="friend-menu" action={() => setOpen(true)}>…</Button>;
  if (!open) return <><Button data-testid="write" aria-label={`Write to ${friend.username}`} action={write}>Write</Button>{more}</>;
  return (
    <>
      <Button kind="quiet" data-testid="unfriend" action={() => change(() => api.friends.unfriend(friend.userId))}>Unfriend</Button>
      <Button kind="quiet" data-testid="block-friend" action={() => change(() => block(friend.userId))}>Block</Button>
    </>
  );
}

const relations: Record<Exclude<Relation, "none">, string> = { sent: "Asked", received: "Wants to be friends", friends: "Friend" };

function Search() {
  const [name, setName] = useState("");
  const [found, setFound] = useState<readonly FoundUser[] | undefined>();
  const search = async (event: SubmitEvent) => {
    event.preventDefault();
    if (name.trim() !== "") await attempt(async () => setFound(await api.friends.search(name.trim())));
  };
  const ask = (p: FoundUser) => change(async () => {
    const relation = await api.friends.request(p.userId);
    setFound((all) => all?.map((f) => (f.userId === p.userId ? { ...f, relation } : f)));
  });
  return (
    <>
      <form class="inline-form" role="search" onSubmit={(e) => void search(e)}>
        <label for="find-people">Find people by name</label>
        <div class="inline">
          <input id="find-people" data-testid="find-people" value={name} autocomplete="off" minLength={2} required onInput={(e) => setName(e.currentTarget.value)} />
          <button class="button primary" type="submit" data-testid="find">Find</button>
        </div>
      </form>
      <div role="status">
        {found?.length === 0 && <p class="empty small">Nobody who lets themselves be found has this name.</p>}
        {found && found.length > 0 && (
          <People label="Found" testid="found" people={found} actions={(p) => p.relation === "none"
            ? <Button data-testid="ask" action={() => ask(p)}>Ask to be friends</Button>
            : <span class="tag">{relations[p.relation]}</span>} />
        )}
      </div>
    </>
  );
}

/** Who may find the user. */
function Found() {
  const d = discoverability.value;
  if (!d) return null;
  return (
    <section class="form" aria-label="Who finds you">
      <h2 class="section">Who finds you</h2>
      <div class="setting">
        <span id="set-found">Found by name<small>By everybody whom you do not block.</small></span>
        <Button kind="switch" role="switch" aria-checked={d.discoverable} aria-labelledby="set-found" data-testid="found-switch"
          action={() => setDiscoverability({ discoverable: !d.discoverable })}>
          <span class="knob" />
        </Button>
      </div>
      <Segments stacked label="Who may ask you to be friends" value={d.requests} options={[["everyone", "Everyone"], ["groups", "My groups"], ["nobody", "Nobody"]]}
        pick={(requests) => void attempt(() => setDiscoverability({ requests }))} />
    </section>
  );
}
