import type { Participant } from "@muster/sdk";
import { useEffect } from "preact/hooks";
import { distance, formatDistance, wind } from "../lib/geo.ts";
import { hue, initials } from "../lib/people.ts";
import { api } from "../live.ts";
import { units } from "../settings.ts";
import { me, people, sharing } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { bearing, onRadar } from "./radar.ts";
import { type CallView, gainOf, key, loadCalls, theCall } from "./state.ts";

const RADIUS = 500; // metres, beyond which nobody is heard

interface Placed {
  readonly who: Participant;
  readonly metres: number | undefined; // undefined: it is not told where they are
  readonly bearing: number;
  readonly gain: number;
}

/** Who is near, and how well they are heard: near ones louder, each from their side. */
export function Near({ view: v, moderates }: { view: CallView; moderates: boolean }) {
  const mine = people.value.get(me.value)?.fix;
  const at = mine?.at ?? sharing.value.at;
  const heading = mine?.heading;
  useEffect(() => {
    if (heading !== undefined) theCall()?.setHeading(heading);
  }, [heading]);
  const on = v.hearing.nearness > 0 || v.hearing.radius > 0;
  const placed = v.participants.filter((p) => key(p) !== v.self).map((who): Placed => {
    const there = people.value.get(who.user)?.fix?.at;
    const known = at && there;
    return {
      who, metres: known ? distance(at, there) : undefined, bearing: known ? bearing(at, there) - (heading ?? 0) : 0,
      gain: on ? (gainOf(v, who)?.gain ?? 0) : 1,
    };
  }).sort((a, b) => (a.metres ?? Infinity) - (b.metres ?? Infinity));
  const turn = async () => {
    await api.communication.change(v.id, { hearing: on ? { most: 0, loudness: 0, nearness: 0, radius: 0 } : { most: 8, loudness: 0.3, nearness: 1, radius: RADIUS } });
    await loadCalls();
  };
  return (
    <div class="near" data-testid="near">
      <div class="setting">
        <span id="near-on">Hear who is near<small>{on ? `Those near are louder; nobody beyond ${formatDistance(v.hearing.radius || RADIUS, units.value)}.` : "Everybody is heard alike."}</small></span>
        {moderates && <Button kind="switch" role="switch" aria-checked={on} aria-labelledby="near-on" data-testid="near-switch" action={turn}><span class="knob" /></Button>}
      </div>
      <Radar placed={placed} radius={v.hearing.radius || RADIUS} speakers={v.speakers} />
      <ul class="items" aria-label="By distance">
        {placed.map(({ who, metres, bearing: b, gain }) => (
          <li key={key(who)} data-testid={`near-${who.name}`} data-gain={gain.toFixed(2)}>
            <span class="grow break"><strong>{who.name}</strong>
              <small>{metres === undefined ? "It is not told where they are" : `${formatDistance(metres, units.value)} ${heading === undefined ? wind(b) : side(b)}`}</small></span>
            <meter min={0} max={1} value={gain} aria-label={`How loud ${who.name} is`} />
          </li>
        ))}
      </ul>
      {!at && <p class="small empty">Share your position to be heard by where you are.</p>}
    </div>
  );
}

const side = (b: number): string => ["ahead", "to the right", "behind", "to the left"][Math.round((((b % 360) + 360) % 360) / 90) % 4]!;

/** A drawing for those who see it; the list beside it says the same. */
function Radar({ placed, radius, speakers }: { placed: readonly Placed[]; radius: number; speakers: ReadonlySet<string> }) {
  return (
    <svg class="radar" viewBox="-110 -110 220 220" aria-hidden="true">
      {[33, 66, 100].map((r) => <circle key={r} r={r} class="ring" />)}
      <circle r="6" class="self" />
      {placed.filter((p) => p.metres !== undefined).map(({ who, metres, bearing: b, gain }) => {
        const { x, y } = onRadar(metres!, b, radius);
        return (
          <g key={key(who)} transform={`translate(${x} ${y})`} opacity={0.35 + 0.65 * gain} class={speakers.has(key(who)) ? "speaks" : ""}>
            <circle r="13" fill={hue(who.user)} />
            <text text-anchor="middle" dy="4">{initials(who.name)}</text>
          </g>
        );
      })}
    </svg>
  );
}
