import { useState } from "preact/hooks";
import type { Fence } from "@muster/sdk";
import { deleteFence, drawFence } from "../fences.ts";
import { ago } from "../lib/age.ts";
import { formatDistance } from "../lib/geo.ts";
import { liveMap } from "../map/map.tsx";
import { around, loadH3 } from "../map/shapes.ts";
import { units } from "../settings.ts";
import { me, myRole, now } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { crossings, draft, fences } from "../whereabouts.ts";
import { Meetings } from "./meetings.tsx";
import { NewPlaceButton, PlaceForm } from "./place-form.tsx";

const LATEST = 5; // of what happened

/** The group's places: who comes and goes is told to everybody in the group, as are meetings. */
export function Places() {
  const d = draft.value;
  return (
    <>
      <section class="form" aria-label="Places">
        <h2 class="section">Places</h2>
        {fences.value.length === 0 && !d && <p class="small muted">Mark a place, and the group is told who arrives and leaves.</p>}
        {fences.value.length > 0 && (
          <ul class="items" aria-label="Places of the group">
            {fences.value.map((f) => (d?.fence === f.fenceId ? <li key={f.fenceId} class="whole"><PlaceForm draft={d} /></li> : <PlaceRow key={f.fenceId} fence={f} />))}
          </ul>
        )}
        {!d && <NewPlaceButton />}
        {d && d.fence === undefined && <PlaceForm draft={d} />}
      </section>
      <Meetings />
      <Happened />
    </>
  );
}

function Happened() {
  const past = crossings.value.slice(0, LATEST);
  if (past.length === 0) return null;
  return (
    <section class="form" aria-label="What happened">
      <h2 class="section">What happened</h2>
      <ul class="happened">
        {past.map((c) => <li key={c.id} data-testid="crossing">{c.text} <small>{ago(c.at, now.value)}</small></li>)}
      </ul>
    </section>
  );
}

function PlaceRow({ fence: f }: { fence: Fence }) {
  const [sure, setSure] = useState(false);
  const may = f.createdBy === me.value || myRole.value !== "member";
  const show = async () => liveMap.value?.lookAtAll(around(f, await loadH3()));
  const change = async () => {
    drawFence(f);
    await show();
  };
  const { circle, polygon } = f.shape;
  return (
    <li class={sure ? "asked" : undefined} data-testid="fence" data-name={f.name} data-lat={circle?.center.lat} data-lng={circle?.center.lng} data-corners={polygon?.[0]?.length}>
      <button type="button" class="row" onClick={() => void show()}>
        <span class="row-icon"><Icon name="pin" /></span>
        <span class="grow">
          <strong>{f.name}</strong>
          <small>{circle ? `${formatDistance(circle.radius, units.value)} around` : polygon ? `an outline of ${polygon[0]?.length ?? 0} corners` : "an area"}</small>
        </span>
      </button>
      {may && !sure && (
        <>
          <Button kind="icon" aria-label={`Change ${f.name}`} data-testid="change-fence" action={change}><Icon name="pencil" /></Button>
          <Button kind="icon" aria-label={`Delete ${f.name}`} data-testid="delete-fence" action={() => setSure(true)}><Icon name="close" /></Button>
        </>
      )}
      {sure && (
        <div class="actions" role="group" aria-label={`Delete ${f.name}?`}>
          <Button kind="danger" data-testid="delete-fence-sure" action={() => deleteFence(f.fenceId)}>Delete it for everybody</Button>
          <Button kind="quiet" action={() => setSure(false)}>Keep it</Button>
        </div>
      )}
    </li>
  );
}
