import { useEffect, useState } from "preact/hooks";
import { ago, clock, freshness } from "../lib/age.ts";
import { distance, formatDistance } from "../lib/geo.ts";
import { listEverybody, lookUpSeen } from "../live.ts";
import { precisionOf, precisionShort } from "../lib/precision.ts";
import { lookAway } from "../nearby.ts";
import { units } from "../settings.ts";
import {
  absent, account, crowd, type Device, everybody, type Fix, group, joined, link, main, me, now, people, type Person, present, type Role, type Seen, seen, sharing,
  unreached, visibility,
} from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { MemberMenu } from "./member-menu.tsx";
import { Nearby } from "./nearby.tsx";
import { ShareCard } from "./share-card.tsx";
import { transportName } from "./status.tsx";

/** Who is here, and who of the group is not. */
export function PeopleSheet({ onSelect, close }: { onSelect: (user: string) => void; close: () => void }) {
  const [tab, setTab] = useState<"group" | "near">("group");
  const pick = (t: typeof tab) => {
    setTab(t);
    if (t === "group") lookAway();
  };
  useEffect(() => lookAway, []);
  return (
    <>
      <div class="segments" role="tablist" aria-label="Which people">
        {([["group", "Group"], ["near", "Nearby"]] as const).map(([id, label]) => (
          <button key={id} type="button" role="tab" aria-selected={tab === id} data-testid={`people-${id}`} onClick={() => pick(id)}>{label}</button>
        ))}
      </div>
      {tab === "near" ? <Nearby onSelect={close} /> : <GroupPeople onSelect={onSelect} />}
    </>
  );
}

function GroupPeople({ onSelect }: { onSelect: (user: string) => void }) {
  const here = present.value;
  const away = absent.value;
  const hidden = joined.value && visibility.value?.invisible && !people.value.has(me.value);
  useEffect(() => {
    if (joined.value) void lookUpSeen(away.map((m) => m.user));
  }, [away, now.value, joined.value]);
  return (
    <>
      <ShareCard alone={joined.value && here.length <= 1} />
      <h2 class="section">{link.value.phase === "reconnecting" ? `Here ${ago(link.value.since, now.value)}` : "Here now"} <span class="count">{crowd.value.truncated ? crowd.value.here : here.length}</span></h2>
      {!joined.value && <p class="empty small">{link.value.phase === "closed" ? "Not connected." : "Connecting to the group…"}</p>}
      <ul class="people" aria-label="Here now">
        {hidden && <HiddenRow />}
        {here.map((p) => <PersonRow key={p.user} person={p} onSelect={onSelect} />)}
      </ul>
      {crowd.value.truncated && (
        <p class="empty small">
          {everybody.value ? `Everybody, as of ${ago(everybody.value.at, now.value)}.` : `${here.length} of ${crowd.value.here} are shown.`}{" "}
          <Button kind="quiet" data-testid="everybody" action={listEverybody}>{everybody.value ? "Look again" : "Show everybody"}</Button>
        </p>
      )}
      {joined.value && away.length > 0 && (
        <>
          <h2 class="section">{unreached.value.length > 0 ? "Not here, as far as is known" : "Not here now"} <span class="count">{away.length}</span></h2>
          <ul class="people" aria-label="Not here now">
            {away.map((m) => (
              <li key={m.user} class="person-row away" data-testid={`absent-${m.name}`}>
                <span class="row">
                  <Avatar user={m.user} name={m.name} dim />
                  <span class="grow">
                    <span class="line"><strong>{m.name}</strong><RoleTag role={m.role} /></span>
                    <small data-testid="last-seen">{lastSeen(seen.value.get(m.user), now.value)}</small>
                  </span>
                </span>
                <MemberMenu user={m.user} name={m.name} role={m.role} />
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

/** The user's own row while the others don't have it. */
function HiddenRow() {
  const who = account.value;
  if (!who) return null;
  return (
    <li class="person-row" data-testid={`member-${who.name}`} data-user={who.user} data-state="invisible">
      <span class="row">
        <Avatar user={who.user} name={who.name} me />
        <span class="grow">
          <span class="line"><strong>{who.name}</strong><span class="tag accent">you</span><span class="tag">invisible</span></span>
          <small>Others see you as offline</small>
        </span>
      </span>
    </li>
  );
}

function lastSeen(s: Seen | undefined, now: number): string {
  if (s?.state === "online") return "online, not in this group now"; // or on the way here
  if (s?.state === "away") return "connection lost";
  return s?.at === undefined ? "not connected" : `last seen ${ago(s.at, now)}`;
}

function RoleTag({ role }: { role: Role | undefined }) {
  return role === undefined || role === "member" ? null : <span class="tag">{role}</span>;
}

function PersonRow({ person, onSelect }: { person: Person; onSelect: (user: string) => void }) {
  const device = main(person.devices);
  const mine = person.user === me.value;
  const role = group.value?.members.find((m) => m.user === person.user)?.role;
  const state = person.unknownSince === undefined ? person.state : "unknown";
  return (
    <li class={`person-row ${state}`} data-testid={`member-${person.name}`} data-user={person.user}
      data-state={state} data-lat={person.fix?.at.lat} data-lng={person.fix?.at.lng} data-cell={person.fix?.cell}>
      <button type="button" class="row" onClick={() => onSelect(person.user)}>
        <Avatar user={person.user} name={person.name} me={mine} dim={state !== "live"} />
        <span class="grow">
          <span class="line">
            <strong>{person.name}</strong>
            {mine && <span class="tag accent">you</span>}
            {mine && visibility.value?.invisible && <span class="tag">invisible</span>}
            <RoleTag role={role} />
          </span>
          {device && <Where device={device} />}
          <Position person={person} mine={mine} />
        </span>
      </button>
      <MemberMenu user={person.user} name={person.name} role={role ?? "member"} />
      {person.devices.length > 1 && (
        <details class="devices">
          <summary>{person.devices.length} devices</summary>
          <ul>
            {person.devices.map((d) => (
              <li key={d.device}>
                {d.state === "suspended" ? "connection lost" : "live"} · {d.region} · {d.node} · {transportName(d.transport)} · since {ago(d.since, now.value)}
                {d.unknownSince !== undefined && ` · unknown since ${clock(d.unknownSince, now.value)}`}
              </li>
            ))}
          </ul>
        </details>
      )}
    </li>
  );
}

function Where({ device }: { device: Device }) {
  return (
    <small>
      <span data-testid="member-region">{device.region}</span>
      {" · "}
      {device.unknownSince !== undefined
        ? <em data-testid="member-unknown">unknown since {clock(device.unknownSince, now.value)}</em>
        : device.state === "suspended"
        ? <em>connection lost {ago(device.since, now.value)}</em>
        : <span data-testid="member-transport">{transportName(device.transport)}</span>}
    </small>
  );
}

/** To the middle of where they may be; within it that says nothing. */
function away(metres: number, fix: Fix): string {
  if (fix.cell === undefined) return `${formatDistance(metres, units.value)} away`;
  return metres < fix.accuracy ? `less than ${formatDistance(2 * fix.accuracy, units.value)}` : `about ${formatDistance(metres, units.value)}`;
}

/** Position, always with its age; how far it is when the viewer's own is known. */
function Position({ person, mine }: { person: Person; mine: boolean }) {
  const own = sharing.value;
  if (mine && own.mode === "off" && !person.fix) return <small>Others see that you are here, not where</small>;
  const fix = person.fix;
  if (!fix) return <small>position not shared</small>;
  const from = own.mode !== "off" && own.at ? own.at : people.value.get(me.value)?.fix?.at;
  const parts = [ago(fix.captured, now.value)];
  if (fix.cell !== undefined) parts.push(precisionShort(precisionOf(fix.cell), units.value));
  else if (fix.accuracy > 0) parts.push(`±${formatDistance(fix.accuracy, units.value)}`);
  if (!mine && from) parts.unshift(away(distance(from, fix.at), fix));
  return (
    <small class="position" data-freshness={person.unknownSince === undefined ? freshness(fix.captured, now.value) : "unknown"}>
      <span class="fresh-dot" aria-hidden="true" />
      {parts.join(" · ")}
    </small>
  );
}
