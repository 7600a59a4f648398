import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { MatchedPerson, TalkRequest } from "@muster/sdk";
import { changeTalks, findable, letFind, loadTalks, look, matches, matchingProfile, saveProfile, talkRequests } from "../talks.ts";
import { formatDistance } from "../lib/geo.ts";
import { api } from "../live.ts";
import { units } from "../settings.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Segments } from "../ui/segments.tsx";
import { Stars } from "../ui/stars.tsx";
import { attempt } from "../ui/toast.tsx";
import { Page } from "./page.tsx";
import { AccountForm, Field } from "./sign-in.tsx";

/** People nearby who are open to talk. */
export function TalksPage() {
  useEffect(() => void attempt(loadTalks), []);
  const profile = matchingProfile.value;
  return (
    <Page title="Talk to people nearby">
      {profile && <Requests />}
      {profile && <Open />}
      {profile?.open && <Found />}
      {profile && <Chosen />}
      {profile && <a class="button quiet" href="/ratings" data-testid="to-ratings">Rate whom you talked to</a>}
    </Page>
  );
}

const openRoom = (room: string) => `/c/${room}`;

function Requests() {
  const { route } = useLocation();
  const all = talkRequests.value;
  if (!all || all.received.length + all.sent.length === 0) return null;
  return (
    <section class="form" aria-label="Requests to talk">
      <h2 class="section">Requests to talk</h2>
      <ul class="items">
        {all.received.map((r) => (
          <li key={r.requestId} data-testid={`asks-${r.username}`}>
            <Who person={r} />
            <Button kind="primary" data-testid="accept-talk" action={() => changeTalks(async () => route(openRoom(await api.matching.accept(r.requestId))))}>Talk</Button>
            <Button kind="quiet" data-testid="decline-talk" action={() => changeTalks(() => api.matching.decline(r.requestId))}>No</Button>
          </li>
        ))}
        {all.sent.map((r) => (
          <li key={r.requestId} data-testid={`asked-${r.username}`}>
            <Who person={r} />
            <span class="tag">Asked</span>
            <Button kind="quiet" data-testid="cancel-talk" action={() => changeTalks(() => api.matching.cancel(r.requestId))}>Take back</Button>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Who({ person: p, more }: { person: TalkRequest | MatchedPerson; more?: string }) {
  return (
    <>
      <Avatar user={p.userId} name={p.username} picture={p.profilePicture} />
      <a class="grow break" href={`/u/${p.userId}`}>
        <strong>{p.username}</strong> <Stars rating={p.rating} />
        {(more || p.say) && <small>{more}{more && p.say && " · "}{p.say}</small>}
      </a>
    </>
  );
}

/** The one switch, and what it needs. */
function Open() {
  const profile = matchingProfile.value;
  if (!profile) return null;
  return (
    <section class="form" aria-label="Open to talk">
      <div class="setting">
        <span id="set-open">Open to talk<small>People nearby who are open, too, see your name, your words and about how far you are. Nobody else does.</small></span>
        <Button kind="switch" role="switch" aria-checked={profile.open} aria-labelledby="set-open" data-testid="open-switch" action={() => saveProfile({ open: !profile.open })}>
          <span class="knob" />
        </Button>
      </div>
      {profile.open && !findable() && (
        <div class="inline-note">
          <p class="small muted">Nobody finds you until people nearby may know the district that you are in.</p>
          <Button kind="primary" data-testid="let-find" action={letFind}>Let them know for an hour</Button>
        </div>
      )}
    </section>
  );
}

function Found() {
  const { route } = useLocation();
  const found = matches.value;
  const ask = (p: MatchedPerson) => changeTalks(async () => {
    const { room } = await api.matching.request(p.userId);
    if (room) route(openRoom(room));
  });
  return (
    <section class="form" aria-label="People nearby">
      <h2 class="section">Nearby</h2>
      <Button data-testid="look-for-talks" action={look}>{found ? "Look again" : "Look who is there"}</Button>
      <div role="status">
        {found && found.unreached.length > 0 && <p class="caution small">Not everywhere can be asked right now: somebody near you may be missing.</p>}
        {found?.people.length === 0 && <p class="empty small">Nobody near you is open to talk right now.</p>}
      </div>
      {found && found.people.length > 0 && (
        <ul class="items" aria-label="Open to talk nearby">
          {found.people.map((p) => (
            <li key={p.userId} data-testid={`match-${p.username}`}>
              <Who person={p} more={[`within ${formatDistance(p.within, units.value)}`, ...p.common].join(" · ")} />
              {p.relation === "none" || p.relation === "received"
                ? <Button kind="primary" data-testid="ask-talk" action={() => ask(p)}>{p.relation === "none" ? "Ask to talk" : "Talk"}</Button>
                : <span class="tag">{relations[p.relation]}</span>}
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

const relations = { sent: "Asked", talking: "Talking", declined: "Not now" } as const;

const radii = [["1000", "1 km"], ["5000", "5 km"], ["20000", "20 km"]] as const;
const floors = [["0", "Anybody"], ["3", "3 stars"], ["4", "4 stars"]] as const;

/** What is told of the user, and whom they want to see. */
function Chosen() {
  const [saved, setSaved] = useState(false);
  const profile = matchingProfile.value;
  if (!profile) return null;
  return (
    <section class="form" aria-label="What you choose">
      <h2 class="section">What you choose</h2>
      <AccountForm testid="matching-form" submit="Save" send={async (v) => {
        setSaved(false);
        await saveProfile({ say: (v["say"] ?? "").trim(), interests: (v["interests"] ?? "").split(",").map((w) => w.trim()).filter(Boolean) });
        setSaved(true);
      }}>
        <Field label="What others read" name="say" defaultValue={profile.say} maxLength={280} placeholder="Happy to talk about bread" data-testid="matching-say" />
        <Field label="Interests" name="interests" defaultValue={profile.interests.join(", ")} hint="A few words, with commas between" data-testid="matching-interests" />
        {saved && <p class="small" role="status">Saved</p>}
      </AccountForm>
      <Segments stacked label="Look around within" value={String(profile.radius)} options={radii} pick={(r) => void attempt(() => saveProfile({ radius: Number(r) }))} />
      <Segments stacked label="Only people with at least" value={String(profile.minRating)} options={floors} pick={(r) => void attempt(() => saveProfile({ minRating: Number(r) }))} />
    </section>
  );
}
