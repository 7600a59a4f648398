import { useEffect } from "preact/hooks";
import type { Neighbour } from "@muster/sdk";
import { ago, freshness } from "../lib/age.ts";
import { formatDistance, wind } from "../lib/geo.ts";
import { precisionOf, precisionShort } from "../lib/precision.ts";
import { here } from "../granting.ts";
import { liveMap } from "../map/map.tsx";
import { blockNearby, isStale, lookAround } from "../nearby.ts";
import { units } from "../settings.ts";
import { me, now, people } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { around, discoverable } from "../whereabouts.ts";
import { PersonMenu } from "./person-menu.tsx";

const EVERY = 5000; // ms, while one can be found oneself

/** Discoverable people around. It looks by itself for who can be found as well; for others when they ask. */
export function Nearby({ onSelect }: { onSelect: () => void }) {
  const open = discoverable.value;
  const centre = () => here() ?? people.value.get(me.value)?.fix?.at ?? liveMap.value?.centre();
  const look = async () => {
    const at = centre();
    if (!at) throw new Error("It is not known where you are.");
    await lookAround(at);
  };
  useEffect(() => {
    if (!open) return;
    void attempt(look);
    const timer = setInterval(() => void look().catch(() => {}), EVERY); // comes again
    return () => clearInterval(timer);
  }, [open]);
  const found = around.value;
  const stale = found !== undefined && isStale(found.at, now.value);
  return (
    <section class="form" aria-label="People nearby">
      {!open && (
        <div class="inline-note">
          <p class="small muted">You can't be found by people nearby. Looking around doesn't change that; those you see may know that you looked.</p>
          <Button kind={found ? "plain" : "primary"} data-testid="look-around" action={look}>{found ? "Look again" : "Look around"}</Button>
        </div>
      )}
      {found && (
        <>
          <h2 class="section" data-testid="near-age" data-stale={stale}>Nearby, {ago(found.at, now.value)} <span class="count">{found.people.length}{found.more ? "+" : ""}</span></h2>
          <div role="status">
            {stale && <p class="caution small" data-testid="near-stale">{open ? "It can't be looked again right now. " : ""}They may have moved on, or be gone.</p>}
            {found.unreached.length > 0 && (
              <p class="caution small" data-testid="near-unreached">{regionList(found.unreached)} can't be asked right now. Somebody near you may be missing.</p>
            )}
          </div>
          {found.people.length === 0 && (
            <p class="empty small">{found.unreached.length > 0 ? "Nobody that the others know of within 5 km." : "Nobody within 5 km who wants to be found."}</p>
          )}
          <ul class={`people${stale ? " stale" : ""}`} aria-label="Nearby">
            {found.people.map((p) => <Row key={p.user} person={p} onSelect={onSelect} />)}
          </ul>
        </>
      )}
    </section>
  );
}

/** "ap-south", "ap-south and us-east". */
const regionList = (names: readonly string[]) => new Intl.ListFormat("en").format(names);

function Row({ person: p, onSelect }: { person: Neighbour; onSelect: () => void }) {
  const fresh = freshness(p.fix.captured.getTime(), now.value);
  return (
    <li class="person-row" data-testid={`near-${p.name}`} data-distance={p.distance} data-direction={p.direction} data-freshness={fresh}>
      <button type="button" class="row" onClick={() => { liveMap.value?.goTo(p.fix.point); onSelect(); }}>
        <Avatar user={p.user} name={p.name} />
        <span class="grow">
          <strong>{p.name}</strong>
          <small class="position" data-freshness={fresh}>
            <span class="fresh-dot" aria-hidden="true" />
            {ago(p.fix.captured.getTime(), now.value)}{fresh === "old" && <> · <em>old</em></>} · {precisionShort(precisionOf(p.fix.cell), units.value)}
          </small>
        </span>
        <span class="way">
          <span class="num">{formatDistance(p.distance, units.value)}</span>
          <span class="arrow" role="img" aria-label={wind(p.direction)} title={wind(p.direction)} style={{ transform: `rotate(${Math.round(p.direction)}deg)` }}><Icon name="arrow" /></span>
        </span>
      </button>
      <PersonMenu user={p.user} name={p.name} block={() => blockNearby(p.user)} />
    </li>
  );
}
